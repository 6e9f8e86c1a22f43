"""Damaged outputs: never an error, never broken arguments, one result wherever they are cut."""

import json
import random

import pytest
from support.notation_samples import SAMPLES
from support.notations import read, use_of

from mlxnode.server.parsing.output_parser import OutputParser

PIECES = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=now>",
    "</parameter>",
]
PIECES += [
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    ",",
    "\\",
    "\n",
    "  ",
    "<",
    '<|"|>',
    "```",
    "now",
    "null",
]


def damaged(text: str, rng: random.Random) -> str:
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(text) + 1)
        kept = at + rng.choice([0, rng.randrange(1, 8)])
        text = text[:at] + rng.choice([*PIECES, ""]) + text[kept:]
    return text


def random_parts(text: str, rng: random.Random) -> list[str]:
    cuts = sorted(rng.choices(range(len(text) + 1), k=5))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_outputs_have_one_result(name):
    notation, first, second = SAMPLES[name]
    rng = random.Random(name)
    for _ in range(40):
        before = rng.choice(["", "I look. ", "<think>Hm.</think>", "<think>Hm.", "Hm.</think>"])
        text = damaged(before + first + second + rng.choice(["", " Done.", first]), rng)
        tools = use_of(
            notation, must_call=rng.random() < 0.3, max_calls=None if rng.random() < 0.8 else 1
        )
        is_cut = rng.random() < 0.4
        results = []
        for parts in ([text], list(text), random_parts(text, rng)):
            output = read(OutputParser(notation, tools=tools), parts, is_cut=is_cut)
            calls = [(call.name, call.arguments) for call in output.calls]
            results.append((output.content, output.reasoning, calls))
            assert results[-1] == results[0], parts
        if not tools.must_call:
            assert all(isinstance(json.loads(text), dict) for _, text in results[0][2])
