"""What models of all families write is read by the notation of their template."""

import json

import pytest
from support.notation_pieces import TOOLS, Sample
from support.notation_templates import FAMILIES
from support.notation_wrapper import make_wrapper

from mlxnode.server.deriving.derive import derive_notation
from mlxnode.server.notation.notation import PLAIN_CALLS
from mlxnode.server.notation.tool_use import Function, ToolUse
from mlxnode.server.parsing.output_parser import OutputParser

SAMPLES = [
    pytest.param(name, sample, id=f"{name}-{index}")
    for name, family in FAMILIES.items()
    for index, sample in enumerate(family.samples)
]
FUNCTIONS = [
    Function(
        name=tool["function"]["name"], parameters=tool["function"]["parameters"], param="tools"
    )
    for tool in TOOLS
]


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_output_of_a_family_is_read_wherever_it_is_cut(name, sample: Sample):
    notation = derive_notation(make_wrapper(FAMILIES[name].template, FAMILIES[name].tokens))
    tools = ToolUse(
        functions=FUNCTIONS,
        calls=notation.calls or PLAIN_CALLS,
        must_call=False,
    )
    for at in range(len(sample.output) + 1):
        parser = OutputParser(notation, tools=tools, is_thinking=sample.is_thinking)
        output = parser.feed(sample.output[:at])
        output.add(parser.feed(sample.output[at:], is_last=True))
        calls = [(call.name, json.loads(call.arguments)) for call in output.calls]
        assert output.content == sample.content, at
        assert output.reasoning == sample.reasoning, at
        assert calls == list(sample.calls), at
