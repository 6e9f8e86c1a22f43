"""Forced text is spelled with ordinary tokens, whatever tokens a tokenizer has beside them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator as Validator
from support.tokenizer_kinds import EOS, KINDS, save
from support.walker import Walker

from mlxnode.engine.decode.vocabulary import load_vocabulary
from mlxnode.server.constraints.constraint import (
    choice_grammar,
    json_grammar,
    lark_grammar,
    regex_grammar,
)

MARKERS = {
    "<|im_end|>": True,
    "<filename>": True,
    "[TOOL_CALLS]": True,
    "<\uff5ctool\u2581sep\uff5c>": True,
    "tool_x": True,  # nothing tells it from a word
    "<tool_call>": False,
    '<|"|>': False,
    "<h1>": False,
    "\n\n": False,
    "plain": False,
}
AROUND = ["", "a", " ", "é", "\n", '"', "<", "e\u0301", "🙂"]


def random_text(random: Random) -> str:
    """A text with markers, and parts of markers, in it."""
    pieces = [random.choice([*AROUND, *MARKERS]) for _ in range(random.randint(1, 4))]
    text = "".join(pieces) or "x"
    return text if random.random() < 0.8 else text[: random.randint(1, len(text))]


def random_schema(random: Random) -> dict[str, Any]:
    names = list(dict.fromkeys(random_text(random) for _ in range(3)))
    values = [
        {"enum": [random_text(random), random_text(random)]},
        {"const": random_text(random)},
        {"type": "array", "items": {"const": random_text(random)}, "maxItems": 2},
    ]
    properties = {name: random.choice(values) for name in names}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | {"required": names[:2]}


@pytest.fixture(params=KINDS)
def walker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Walker]:
    markers = list(MARKERS.items())
    Random(request.param).shuffle(markers)
    tokenizer = save(request.param, dict(markers), tmp_path)
    walker = Walker(tmp_path, tokenizer.get_vocab_size() + 40, [tokenizer.token_to_id(EOS)])
    yield walker
    walker.compiler.close()


def test_walk_schema_with_markers_in_it_validates(walker: Walker):
    for seed in range(25):
        schema = random_schema(Random(seed))
        tokens = walker.walk(json_grammar(schema, "schema"), seed)
        assert tokens is not None
        Validator(schema).validate(json.loads(walker.text(tokens)))


def test_walk_choice_of_markers_gives_a_choice(walker: Walker):
    for seed in range(20):
        random = Random(seed)
        choices = [random_text(random) for _ in range(3)]
        assert walker.text(walker.walk(choice_grammar(choices), seed)) in choices
        for choice in choices:
            assert walker.text(walker.walk(choice_grammar([choice]), seed)) == choice


@pytest.mark.parametrize("form", ["start: {}", 'start: "x" | {}'])
def test_walk_lark_with_a_marker_in_it(walker: Walker, form: str):
    for marker in MARKERS:
        grammar = lark_grammar(form.format(json.dumps(f"a{marker}")))
        texts = {walker.text(walker.walk(grammar, seed)) for seed in range(8)}
        assert f"a{marker}" in texts


def test_walk_regex_with_a_marker_in_it(walker: Walker):
    for i, marker in enumerate(MARKERS):
        regex = rf"[a-c]{{0,2}}{re.escape(marker)}( {re.escape(marker)})?z"
        tokens = walker.walk(regex_grammar(regex), i)
        assert re.fullmatch(regex, walker.text(tokens))


def test_markers_are_in_no_mask_of_a_text(walker: Walker):
    state = walker.compiler.start(regex_grammar("(?s:.*)"))
    allowed = walker.allowed(state)
    for text, is_special in MARKERS.items():
        is_marker = is_special or (text[0], text[-1]) == ("<", ">")
        assert allowed[walker.tokenizer.token_to_id(text)] != is_marker


def test_forced_text_is_spelled_as_the_tokenizer_does(walker: Walker, tmp_path: Path):
    vocabulary = load_vocabulary(
        tmp_path / "tokenizer.json", walker.vocabulary_size, walker.stop_ids
    )
    for text in ('{"name": "tool"}', 'a "name" tool', "to the end"):
        assert vocabulary.decode_bytes(ids := vocabulary.tokenize_str(text)) == text.encode()
        own = walker.tokenizer.encode(f"x{text}", add_special_tokens=False).ids
        assert ids[1:] == own[len(own) - len(ids) + 1 :]


def test_load_vocabulary_refuses_a_tokenizer_of_an_unknown_kind(tmp_path: Path):
    tokenizer = KINDS["byte_level"]({})
    tokenizer.decoder = None
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="unknown"):
        load_vocabulary(tmp_path / "tokenizer.json", 300, [0])
