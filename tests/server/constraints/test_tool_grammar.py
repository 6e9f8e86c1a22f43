"""Random walks over the grammars of calls: each text is read as calls that fit their tools."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator as Validator
from support.contract import tool_use
from support.notation_templates import FAMILIES
from support.notation_wrapper import ENDS, make_wrapper
from support.walker import Walker

from mlxnode.server.constraints.constraint import check_grammar
from mlxnode.server.constraints.tool_grammar import Writing, tool_grammar
from mlxnode.server.notation.derive import derive_notation
from mlxnode.server.notation.notation import Notation
from mlxnode.server.notation.output import OutputDelta
from mlxnode.server.notation.output_parser import OutputParser
from mlxnode.server.notation.tool_use import ToolUse

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["c", "<|end|>", "ä \"'", "</parameter>", 7, None]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        "deep": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "is_ok": {"type": ["boolean", "null"]},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [{"name": "get", "parameters": WEATHER}, {"name": "get_all"}]
SCHEMAS = {
    "get": WEATHER,
    "get_all": {"type": "object", "properties": {}, "additionalProperties": False},
}


class Model:
    """The notation of a family, and a vocabulary with its tokens."""

    def __init__(self, name: str, folder: Path):
        family = FAMILIES[name]
        wrapper = make_wrapper(family.template, family.tokens)
        tokenizer = wrapper.backend_tokenizer
        tokenizer.save(str(folder / "tokenizer.json"))
        self.notation: Notation = derive_notation(wrapper)
        stop = tokenizer.token_to_id(ENDS[1])
        self.walker = Walker(folder, tokenizer.get_vocab_size() + 5, [stop])
        self.special = {id: t.content for id, t in tokenizer.get_added_tokens_decoder().items()}

    def writing(self, **options: bool) -> Writing:
        return Writing(notation=self.notation, tokens=self.walker.markers, **options)

    def tools(self, *functions: dict[str, Any], **options: Any) -> ToolUse:
        return tool_use(*(functions or TOOLS), notation=self.notation, **options)

    @property
    def endings(self) -> list[str]:
        """What ends a text in the middle of an answer."""
        notation, found = self.notation, ["<|end|><|start|>assistant"]
        found += [] if notation.thinking is None else [notation.thinking.end]
        calls = notation.calls
        if calls is not None and calls.arguments is not None:
            found += [calls.arguments.after_value, '"', "'", '<|"|>']
        return [text for text in found if text]

    def read(self, tokens: list[int], tools: ToolUse, *, is_thinking: bool = False):
        """What the parser makes of an answer."""
        parser = OutputParser(self.notation, tools=tools, is_thinking=is_thinking)
        delta = OutputDelta()
        for is_special, group in itertools.groupby(tokens, self.special.__contains__):
            for ids in [[id] for id in group] if is_special else [list(group)]:
                text = self.special[ids[0]] if is_special else self.walker.whole_text(ids)
                delta.add(parser.feed(text, is_special=is_special))
        delta.add(parser.feed("", is_last=True))
        return delta


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Model]:
    model = Model(request.param, tmp_path)
    yield model
    model.walker.compiler.close()


def check_calls(delta: OutputDelta) -> list[tuple[str, str]]:
    calls = [(call.name, call.arguments) for call in delta.calls]
    for name, arguments in calls:
        Validator(SCHEMAS[name]).validate(json.loads(arguments))
    return calls


each_family = pytest.mark.parametrize("model", FAMILIES, indirect=True)


@each_family
async def test_required_calls_are_read_as_calls(model: Model):
    tools = model.tools(tool_choice="required")
    grammar = tool_grammar(tools, None, model.writing())
    await check_grammar(grammar, "tools")
    num_ended = 0
    for seed in range(12):
        tokens = model.walker.walk(grammar, seed, max_tokens=2000, endings=model.endings)
        if tokens is None:
            continue
        num_ended += 1
        delta = model.read(tokens, tools)
        assert check_calls(delta), model.walker.whole_text(tokens)
        assert not delta.content.strip(), model.walker.whole_text(tokens)
        assert not delta.reasoning or model.notation.is_harmony
    assert num_ended >= 10
