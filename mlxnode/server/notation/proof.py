"""Proves a notation: what is written in it is what the template writes, and is read back."""

import re
from typing import Any

from mlxnode.server.notation.notation import CallNotation
from mlxnode.server.notation.probe import IDS, KEYS, NAMES, Call, Probe
from mlxnode.server.notation.read_calls import FoundCalls
from mlxnode.server.notation.write import write_calls

_FIRST, _SECOND, _THIRD = KEYS[:3]
_ONE: Call = (NAMES[0], {_FIRST: "an old town", _SECOND: "x"}, IDS[0])
_NONE: Call = (NAMES[1], {}, IDS[1])
# Numbers and lists look the same in JSON and in Python, which some templates mix.
_NESTED: Call = (NAMES[0], {_FIRST: "a: b", _SECOND: 3, _THIRD: [[1, 2], []]}, IDS[0])
_LONE: Call = (NAMES[0], {}, IDS[0])


class Unproven(Exception):
    """The notation is not what the template writes, or is not read back."""


def prove_history(probe: Probe, found: FoundCalls) -> None:
    """Compare what the template writes for several answers with what ``found`` writes.

    Raises:
        Unproven: they differ.
    """
    answers = [[_ONE], [_NESTED], [_LONE]]
    if found.notation.has_several:
        answers += [[_ONE, _NONE], [_NESTED, _NONE]]
    for calls in answers:
        rendered = probe.calls(calls, found.form)
        written = _write(found.notation, calls)
        if rendered is None or _without_space(written) not in _without_space(rendered):
            names = ", ".join(f"{name}({arguments})" for name, arguments, _ in calls)
            raise Unproven(f"the notation read off the template fails for {names}")


def _write(notation: CallNotation, calls: list[Call]) -> str:
    called: list[tuple[str, dict[str, Any]]] = [call[:2] for call in calls]
    return write_calls(notation, called, [id for *_, id in calls])


def _without_space(text: str) -> str:
    """Templates lay out JSON, and the white space around a call, in their own ways."""
    return re.sub(r"\s+", "", text)


def prove(notation) -> None:
    pass
