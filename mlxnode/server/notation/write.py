"""Writes calls in a notation: the inverse of reading them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlxnode.server.notation.notation import (
    GEMMA_QUOTE,
    CallNotation,
    Field,
    TaggedArguments,
    ValueStyle,
)


def write_calls(
    calls: CallNotation,
    called: Sequence[tuple[str, Mapping[str, Any]]],
    ids: Sequence[str] | None = None,
) -> str:
    """The text of ``called``, names with arguments, as a model of ``calls`` writes it.

    ``ids`` fill the ``Field.ID`` of each call; by default, they are numbers of nine digits.
    """
    if ids is None:
        ids = [f"{index:09}" for index in range(len(called))]
    texts = [
        _write_call(calls, name, arguments, ids[index], index)
        for index, (name, arguments) in enumerate(called)
    ]
    return calls.start + calls.separator.join(texts) + calls.end


def write_arguments(notation: TaggedArguments | None, arguments: Mapping[str, Any]) -> str:
    """The text of ``arguments``, without what surrounds all of them."""
    if notation is None:
        return json.dumps(arguments, ensure_ascii=False)
    return notation.separator.join(
        _write_argument(notation, key, value) for key, value in arguments.items()
    )


def write_value(value: Any, style: ValueStyle) -> str:
    """The text of one argument's value, without its markers."""
    match style:
        case ValueStyle.TEXT:
            return value if isinstance(value, str) else write_value(value, ValueStyle.JSON)
        case ValueStyle.JSON:
            return json.dumps(value, ensure_ascii=False)
        case ValueStyle.PYTHON:
            return repr(value)
        case ValueStyle.GEMMA:
            return _write_gemma(value)


def _write_call(
    calls: CallNotation, name: str, arguments: Mapping[str, Any], id: str, index: int
) -> str:
    texts = {
        Field.NAME: name,
        Field.ARGUMENTS: write_arguments(calls.arguments, arguments),
        Field.ID: id,
        Field.INDEX: str(index),
    }
    return "".join(part if isinstance(part, str) else texts[part] for part in calls.call)


def _write_argument(notation: TaggedArguments, key: str, value: Any) -> str:
    before_value = notation.before_value
    if notation.before_other_value is not None and not isinstance(value, str):
        before_value = notation.before_other_value
    text = write_value(value, notation.style)
    return notation.before_key + key + before_value + text + notation.after_value


def _write_gemma(value: Any) -> str:
    if isinstance(value, str):
        return GEMMA_QUOTE + value + GEMMA_QUOTE
    if isinstance(value, Mapping):
        items = [f"{key}:{_write_gemma(item)}" for key, item in value.items()]
        return "{" + ",".join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_write_gemma, value)) + "]"
    return json.dumps(value)
