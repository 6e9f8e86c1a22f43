"""Random walks over the grammars of calls: each text is read as calls that fit their tools."""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator as Validator
from support.contract import tool_use
from support.notation_templates import FAMILIES
from support.notation_wrapper import ENDS, make_wrapper
from support.schema_grammars import takes
from support.walker import Walker

from mlxnode.server.constraints.constraint import Constraint, check_grammar
from mlxnode.server.constraints.tool_grammar import Writing, answer_grammar, tool_grammar
from mlxnode.server.deriving.derive import derive_notation
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.notation import Notation
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.notation.write import write_calls
from mlxnode.server.parsing.output import OutputDelta
from mlxnode.server.parsing.output_parser import OutputParser

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


def opening(model: Model) -> str:
    """The text before the first name of a call, without white space before it."""
    calls = model.tools().calls
    first = calls.call[0]
    return (calls.start + (first if isinstance(first, str) else "")).lstrip()


@each_family
async def test_text_is_free_until_a_call_starts(model: Model):
    tools = model.tools(TOOLS[0], {"name": "get_all", "strict": True})
    grammar = tool_grammar(tools, None, model.writing())
    await check_grammar(grammar, "tools")
    num_calls = 0
    # Harmony's headers are forced as they are.
    start = [] if model.notation.is_harmony else [opening(model)]
    for seed in range(8):
        tokens = model.walker.walk(
            grammar, seed, max_tokens=2000, endings=model.endings + start, num_passed=3
        )
        if tokens is not None:
            delta = model.read(tokens, tools)
            num_calls += len(check_calls(delta))
            assert "<tool_call>" not in delta.content
    # A bare call has to be the first that the model writes.
    assert num_calls or tools.calls.is_bare
    # A text without calls, with the markers that belong to texts.
    state = model.walker.compiler.start(grammar)
    text = "Hello, {world} [1]\n"
    if model.notation.is_harmony:
        text = f"<|channel|>final<|message|>{text}"
    elif (thinking := model.notation.thinking) is not None:
        text = f"{thinking.start}Once{thinking.end}{text}"
    for token in model.walker.tokenizer.encode(text).ids:
        state.accept(token)
    assert state.error is None and state.may_end


@each_family
@pytest.mark.parametrize("is_parallel", [True, False])
async def test_another_call_follows_where_several_are_allowed(model: Model, is_parallel: bool):
    tools = model.tools(tool_choice="required", parallel_tool_calls=is_parallel)
    grammar = tool_grammar(tools, None, model.writing())
    has_several = is_parallel and tools.calls.has_several and not model.notation.is_harmony
    counts = set()
    for seed in range(6):
        tokens = model.walker.walk(
            grammar, seed, max_tokens=3000, endings=model.endings, num_passed=1
        )
        if tokens is not None:
            # Without a limit on what is read: equal calls count as well.
            free = dataclasses.replace(tools, must_call=False, max_calls=None)
            counts.add(len(check_calls(model.read(tokens, free))))
    assert counts and (has_several or counts == {1})


@pytest.mark.parametrize(
    "model", [n for n in FAMILIES if n.startswith(("qwen3", "solar", "command"))], indirect=True
)
async def test_reasoning_comes_first_where_the_model_decides(model: Model):
    tools = model.tools(tool_choice="required")
    thinking = model.notation.thinking
    if thinking is None:
        return
    grammar = tool_grammar(tools, None, model.writing(may_think=True))
    state = model.walker.compiler.start(grammar)
    encode = model.walker.tokenizer.encode
    for token in encode(f"{thinking.start}\nOnce {{\n{thinking.end}").ids:
        state.accept(token)
    assert state.error is None and not state.may_end
    grammar = tool_grammar(tools, None, model.writing(is_reasoning=True))
    for seed in range(5):
        tokens = model.walker.walk(grammar, seed, max_tokens=2000, endings=model.endings)
        if tokens is not None:
            thought = encode(f"Once {{{thinking.end}").ids
            delta = model.read([*thought, *tokens], tools, is_thinking=True)
            assert check_calls(delta) and delta.reasoning == "Once {" and not delta.content


@each_family
async def test_an_answer_in_a_form_is_content(model: Model):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    constraint = Constraint.json(schema, "response_format")
    for tools in (None, model.tools()):
        grammar = await answer_grammar(constraint, tools, model.writing())
        for seed in range(6):
            tokens = model.walker.walk(grammar, seed, max_tokens=2000, endings=model.endings)
            if tokens is None:
                continue
            delta = model.read(tokens, tools)
            if tools is None or not check_calls(delta):
                assert set(json.loads(delta.content)) == {"a"}


@pytest.mark.parametrize("model", ["llama3"], indirect=True)
async def test_a_bare_call_leaves_room_for_an_object_of_another_form(model: Model):
    schema = {"type": "object", "properties": {"nap": {"type": "integer"}}, "required": ["nap"]}
    constraint = Constraint.json(schema, "response_format")
    grammar = await answer_grammar(constraint, model.tools(), model.writing())
    assert takes(grammar, '{"nap": 5}')
    assert takes(grammar, '{"name": "get_all", "parameters": {}}')
    assert not takes(grammar, '{"name": 5}')


@pytest.mark.parametrize("model", ["qwen3-coder", "gemma4", "lfm2.5"], indirect=True)
@pytest.mark.parametrize(
    ("parameter", "keyword"),
    [
        ({"type": "string", "pattern": "^[a-z]+$"}, "pattern"),
        ({"type": "string", "format": "date"}, "format"),
    ],
)
def test_strict_refuses_what_the_notation_cannot_keep(
    model: Model, parameter: dict[str, Any], keyword: str
):
    schema = {"type": "object", "properties": {"x": parameter}, "required": ["x"]}
    schema["additionalProperties"] = False
    tools = [{"name": "now"}, {"name": "find", "parameters": schema, "strict": True}]
    with pytest.raises(InvalidRequest, match=f"'{keyword}'.*'x'.*'find'") as caught:
        tool_grammar(model.tools(*tools), None, model.writing())
    assert caught.value.param == "tools[1].function.parameters"
    del tools[1]["strict"]
    assert tool_grammar(model.tools(*tools, tool_choice="required"), None, model.writing())


@pytest.mark.parametrize("model", ["qwen3-coder", "lfm2.5", "gemma4"], indirect=True)
@pytest.mark.parametrize("num_names", [5, 70])
async def test_arguments_come_once_and_the_required_ones_all(model: Model, num_names: int):
    names = [f"name_{i}" for i in range(num_names)]
    schema = {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in names},
        "required": names[1:3],
        "additionalProperties": False,
    }
    options = {"tool_choice": "required", "parallel_tool_calls": False}
    tools = model.tools({"name": "get", "parameters": schema}, **options)
    grammar = tool_grammar(tools, None, model.writing())
    await check_grammar(grammar, "tools")
    num_ended = 0
    for seed in range(6):
        tokens = model.walker.walk(grammar, seed, max_tokens=4000)
        if tokens is not None:
            num_ended += 1
            [call] = model.read(tokens, tools).calls
            Validator(schema).validate(json.loads(call.arguments))
            text = model.walker.whole_text(tokens)
            assert all(len(re.findall(rf"{name}\b", text)) <= 1 for name in names)
    assert num_ended


@pytest.mark.parametrize("model", ["qwen3-coder", "lfm2.5", "gemma4", "qwen3"], indirect=True)
async def test_other_arguments_come_where_the_schema_allows_them(model: Model):
    schema = {"type": "object", "properties": {"city": {"type": "integer"}}}
    schema["additionalProperties"] = True
    tools = model.tools({"name": "get", "parameters": schema}, tool_choice="required")
    grammar = tool_grammar(tools, None, model.writing())
    calls = write_calls(tools.calls, [("get", {"city": 3, "cities": "a"})])
    state = model.walker.compiler.start(grammar)
    for token in model.walker.tokenizer.encode(calls.strip()).ids:
        state.accept(token)
    assert state.error is None and state.may_end


async def test_an_error_names_the_tool_whose_parameters_cannot_be_followed():
    bad = {"type": "object", "properties": {"x": {"enum": ["a"], "type": "string"}}}
    bad["properties"]["y"] = {"allOf": [{"const": 1}, {"const": 2}]}
    bad["required"] = ["y"]
    tools = tool_use(
        {"name": "now"}, {"name": "find", "parameters": bad}, tool_choice="required"
    )
    with pytest.raises(InvalidRequest) as caught:
        await answer_grammar(None, tools)
    assert caught.value.param == "tools[1].function.parameters"
