"""A notation is used only if what is written in it is read back."""

import dataclasses

import pytest

from mlxnode.server.deriving.families import HARMONY
from mlxnode.server.deriving.proof import Unproven, prove
from mlxnode.server.notation.notation import (
    PLAIN_CALLS,
    CallNotation,
    Field,
    Markers,
    Notation,
    TaggedArguments,
    ValueStyle,
)

THINKING = Markers("<think>", "</think>")
HERMES = Notation(thinking=THINKING, calls=PLAIN_CALLS)


@pytest.mark.parametrize("notation", [HERMES, HARMONY, Notation(), Notation(thinking=THINKING)])
def test_prove_accepts_a_notation_that_is_read_back(notation):
    prove(notation)


@pytest.mark.parametrize(
    "calls",
    [
        CallNotation((Field.NAME, Field.ARGUMENTS)),  # nothing begins a call
        CallNotation(("<think>", Field.NAME, " ", Field.ARGUMENTS)),  # it begins a thought
        CallNotation(
            ("<call>", Field.NAME, "=", Field.ARGUMENTS, "</call>"),
            arguments=TaggedArguments(  # a comma or a line end in a value ends it
                before_key="",
                before_value=":",
                after_value="\n",
                separator="",
                style=ValueStyle.TEXT,
            ),
        ),
    ],
)
def test_prove_refuses_a_notation_that_is_not_read_back(calls):
    with pytest.raises(Unproven, match=r"are not read back|cannot be read"):
        prove(dataclasses.replace(HERMES, calls=calls))
