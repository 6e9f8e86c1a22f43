"""Random walks: whatever is drawn from the masks, the text is in the grammar."""

import json
import re
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator as Validator
from support import tiny
from support.contract import tool_use
from support.random_schemas import SchemaMaker
from support.walker import Walker
from tokenizers import Tokenizer, decoders, models, normalizers

from mlxnode.engine.decode.grammar import GrammarCompiler, fill_masks, mask_words
from mlxnode.grammar import GrammarError
from mlxnode.models.gguf.folder import model_folder
from mlxnode.server.constraints.constraint import (
    choice_grammar,
    json_grammar,
    lark_grammar,
    regex_grammar,
)
from mlxnode.server.constraints.tool_grammar import tool_grammar

NUM_SCHEMAS = 200


def walk(walker: Walker, grammar: str, seed: int) -> str | None:
    tokens = walker.walk(grammar, seed)
    return None if tokens is None else walker.whole_text(tokens)


@pytest.fixture(scope="module")
def tiny_walker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walker]:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.make_tokenizer(folder)
    walker = Walker(folder, 259, [tiny.EOS_ID])
    yield walker
    walker.compiler.close()


@pytest.fixture(scope="module")
def demo_walker(demo_chat: Path) -> Iterator[Walker]:
    walker = Walker(model_folder(demo_chat), 49_152, [0, 2])
    yield walker
    walker.compiler.close()


@pytest.fixture(params=["tiny", pytest.param("demo", marks=pytest.mark.slow)])
def walker(request: pytest.FixtureRequest) -> Walker:
    return request.getfixturevalue(f"{request.param}_walker")


@pytest.mark.long
@pytest.mark.slow
def test_walk_json_schema_always_validates(walker: Walker):
    num_ended = 0
    for seed in range(NUM_SCHEMAS):
        schema = SchemaMaker(seed).make()
        Validator.check_schema(schema)
        text = walk(walker, json_grammar(schema, "schema"), seed)
        if text is None:
            continue
        num_ended += 1
        Validator(schema, format_checker=Validator.FORMAT_CHECKER).validate(json.loads(text))
    assert num_ended >= 0.95 * NUM_SCHEMAS


@pytest.mark.parametrize("form", ["date", "date-time"])
@pytest.mark.parametrize(
    ("year", "is_allowed"), [("0000", False), ("0009", True), ("2024", True)]
)
def test_dates_have_a_year_that_languages_know(
    tiny_walker: Walker, form: str, year: str, is_allowed: bool
):
    state = tiny_walker.compiler.start(json_grammar({"format": form}, "schema"))
    text = f'"{year}-02-28' + ("T12:00:00Z" if form == "date-time" else "") + '"'
    for token in tiny_walker.tokenizer.encode(text).ids:
        state.accept(token)
    assert (state.error is None) is is_allowed


@pytest.mark.parametrize("form", ["time", "date-time"])
@pytest.mark.parametrize(
    ("rest", "is_allowed"),
    [("Z", True), (".1Z", True), (f".{'1' * 9}+01:00", True), (f".{'1' * 10}Z", False)],
)
def test_seconds_have_nine_digits_at_most(
    tiny_walker: Walker, form: str, rest: str, is_allowed: bool
):
    state = tiny_walker.compiler.start(json_grammar({"format": form}, "schema"))
    text = f'"{"2024-02-28T" if form == "date-time" else ""}12:00:00{rest}"'
    for token in tiny_walker.tokenizer.encode(text).ids:
        state.accept(token)
    assert (state.error is None) is is_allowed


def test_what_is_no_schema_is_left_alone(tiny_walker: Walker):
    state = tiny_walker.compiler.start(json_grammar({"const": {"format": "date"}}, "schema"))
    for token in tiny_walker.tokenizer.encode('{"format": "date"}').ids:
        state.accept(token)
    assert state.error is None and tiny_walker.allowed(state)[tiny.EOS_ID]


def test_walk_json_object_gives_an_object(walker: Walker):
    grammar = json_grammar({"type": "object"}, "response_format")
    texts = [walk(walker, grammar, seed) for seed in range(20)]
    objects = [json.loads(text) for text in texts if text is not None]
    assert len(objects) > 15
    assert all(isinstance(value, dict) for value in objects)


@pytest.mark.parametrize("regex", [r"[a-f]{3}-\d{2}", "(yes|no)!?", "größe:\n[äöü]{2,4}/"])
def test_walk_regex_matches(walker: Walker, regex: str):
    grammar = regex_grammar(regex)
    for seed in range(20):
        assert re.fullmatch(regex, walk(walker, grammar, seed))


def test_walk_choice_gives_every_choice(walker: Walker):
    choices = ["red", 'with "quotes"', "line\nbreak", "größe"]
    grammar = choice_grammar(choices)
    assert {walk(walker, grammar, seed) for seed in range(60)} == set(choices)


def test_walk_gives_texts_of_tokens_that_have_no_text(walker: Walker):
    for marker in ("<repo_name>", "<filename>", "a<|im_end|>b", "<|endoftext|>"):
        for seed in range(3):
            grammar = json_grammar({"enum": [marker, f"{marker}!"]}, "schema")
            assert json.loads(walker.text(walker.walk(grammar, seed))).rstrip("!") == marker
            assert walker.text(walker.walk(choice_grammar([marker]), seed)) == marker


def test_walk_lark_follows_its_rules(walker: Walker):
    grammar = lark_grammar(
        'start: sum "="\nsum: NUMBER ("+" NUMBER)*\nNUMBER: /[1-9][0-9]{0,2}/'
    )
    for seed in range(20):
        text = walk(walker, grammar, seed)
        assert text is None or re.fullmatch(r"\d+(\+\d+)*=", text)


def test_walk_tool_calls_are_calls_of_the_tools(walker: Walker):
    weather = {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"enum": [1, 7]}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"city": {"type": "string", "maxLength": 9}},
    }
    tools = [
        {"name": "get_weather", "parameters": weather, "strict": True},
        {"name": "now"},
    ]
    grammar = tool_grammar(tool_use(*tools, tool_choice="required", parallel_tool_calls=False))
    names = set()
    for seed in range(30):
        text = walk(walker, grammar, seed)
        call = json.loads(re.fullmatch(r"<tool_call>\n?(.*?)\n?</tool_call>", text, re.S)[1])
        names.add(call["name"])
        assert set(call) == {"name", "arguments"}
        if call["name"] == "now":
            assert call["arguments"] == {}
        else:
            Validator(weather).validate(call["arguments"])
    assert names == {"get_weather", "now"}


@pytest.mark.parametrize("parallel", [True, False])
def test_tool_calls_may_follow_each_other_when_parallel(tiny_walker: Walker, parallel: bool):
    options = {"tool_choice": "required", "parallel_tool_calls": parallel}
    grammar = tool_grammar(tool_use({"name": "now"}, **options))
    state = tiny_walker.compiler.start(grammar)
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for token in tiny_walker.tokenizer.encode(call).ids:
        state.accept(token)
    assert tiny_walker.allowed(state)[tiny.EOS_ID]
    assert state.is_finished is not parallel
    for token in tiny_walker.tokenizer.encode(f"\n{call}").ids:
        state.accept(token)
    assert (state.error is None) is parallel


def test_walk_sentencepiece_vocabulary_with_padded_logits(tmp_path: Path):
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *string.ascii_letters, *string.digits, *'{}[]":,.+-', "▁t", '":', '"}']
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(pieces[:3])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    walker = Walker(tmp_path, len(pieces) + 71, [2])
    for seed in range(50):
        schema = SchemaMaker(seed).make()
        text = walk(walker, json_grammar(schema, "schema"), seed)
        if text is not None:
            Validator(schema).validate(json.loads(text))
    walker.compiler.close()


def test_fill_masks_serves_rows_of_all_kinds(tiny_walker: Walker):
    start = tiny_walker.compiler.start
    ids = [tiny_walker.tokenizer.token_to_id(character) for character in "ab"]
    first, second = start(lark_grammar('start: "a" "b"')), start(lark_grammar('start: "a" "b"'))
    first.accept(ids[0])
    masks = np.zeros((3, mask_words(259)), np.uint32)
    fill_masks([first, None, second], masks)
    assert masks[0, ids[1] // 32] == 1 << ids[1] % 32
    assert (masks[1] == 0xFFFFFFFF).all()
    assert masks[2, ids[0] // 32] == 1 << ids[0] % 32
    assert np.bitwise_count(masks[[0, 2]]).sum() == 2


def test_state_is_finished_when_only_a_stop_token_may_follow(tiny_walker: Walker):
    state = tiny_walker.compiler.start(lark_grammar('start: "a"'))
    assert not state.is_finished
    state.accept(tiny_walker.tokenizer.token_to_id("a"))
    assert state.is_finished
    assert np.flatnonzero(tiny_walker.allowed(state)).tolist() == [tiny.EOS_ID]
    state.accept(tiny.EOS_ID)
    assert state.is_finished
    assert state.error is None


def test_state_may_go_on_or_stop(tiny_walker: Walker):
    state = tiny_walker.compiler.start(lark_grammar("start: /a+/"))
    state.accept(a := tiny_walker.tokenizer.token_to_id("a"))
    assert not state.is_finished
    assert np.flatnonzero(tiny_walker.allowed(state)).tolist() == [tiny.EOS_ID, a]


def test_state_error_tells_of_a_token_that_is_not_allowed(tiny_walker: Walker):
    state = tiny_walker.compiler.start(lark_grammar('start: "a"'))
    state.accept(tiny_walker.tokenizer.token_to_id("b"))
    assert not state.is_finished
    assert "\n" not in state.error


def test_state_error_tells_of_a_grammar_that_gets_too_complex(tiny_walker: Walker):
    rules = [f'a{i}: "{i}" | /x*/' for i in range(400)]
    alternatives = " | ".join(f"a{i}" for i in range(400))
    state = tiny_walker.compiler.start(
        lark_grammar("\n".join(['start: "go" a', f"a: {alternatives}", *rules]))
    )
    other = tiny_walker.compiler.start(lark_grammar('start: "a"'))
    masks = np.zeros((2, mask_words(259)), np.uint32)
    for character in "go":
        state.accept(tiny_walker.tokenizer.token_to_id(character))
        fill_masks([state, other], masks)
    assert state.error
    assert not state.is_finished
    assert other.error is None
    assert np.bitwise_count(masks).sum(axis=1).tolist() == [1, 1]
    assert masks[0, 0] == 1 << tiny.EOS_ID


@pytest.mark.parametrize("text", ["", "start: missing", 'start: "a', "start: /(?=x)x/"])
def test_start_refuses_a_bad_grammar(tiny_walker: Walker, text: str):
    with pytest.raises(GrammarError):
        tiny_walker.compiler.start(lark_grammar(text))


def test_start_survives_a_long_chain_of_references(tiny_walker: Walker):
    definitions: dict[str, Any] = {"1200": {"type": "integer"}}
    for i in range(1200):
        definitions[f"{i}"] = {"properties": {"x": {"$ref": f"#/$defs/{i + 1}"}}}
    schema = {"$defs": definitions, "$ref": "#/$defs/0"}
    state = tiny_walker.compiler.start(json_grammar(schema, "schema"))
    assert state.error is None


def test_start_refuses_a_model_without_a_usable_tokenizer(tmp_path: Path):
    compiler = GrammarCompiler(tmp_path, 259, [tiny.EOS_ID])
    with pytest.raises(GrammarError, match=r"tokenizer\.json"):
        compiler.start(lark_grammar('start: "a"'))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(GrammarError, match="cannot be constrained"):
        compiler.start(lark_grammar('start: "a"'))
    compiler.close()


def test_fill_masks_takes_little_of_a_decode_step(demo_walker: Walker):
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "n": {}}}
    states = [
        demo_walker.compiler.start(json_grammar(schema | {"title": str(i)}, "schema"))
        for i in range(32)
    ]
    masks = np.zeros((32, mask_words(49_152)), np.uint32)
    seconds = []
    for character in '{"name":"':
        started = time.process_time()  # of the CPU: other processes do not count
        fill_masks(states, masks)
        seconds.append(time.process_time() - started)
        for state in states:
            state.accept(demo_walker.tokenizer.token_to_id(character))
    assert np.median(seconds) < 0.02  # 0.3 ms on an idle machine


def test_compiler_forgets_the_grammars_not_used_for_longest(tiny_walker: Walker):
    for i in range(40):
        tiny_walker.compiler.start(lark_grammar(f'start: "{i}"'))
    cached = list(tiny_walker.compiler._compiled)
    assert cached == [lark_grammar(f'start: "{i}"') for i in range(8, 40)]


def test_grammar_modules_import_no_mlx():
    code = "import sys, mlxnode.engine.decode.grammar; sys.exit('mlx.core' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
