"""Calls as a chat template renders them, divided into fields and the texts around them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlxnode.server.deriving.atoms import atoms
from mlxnode.server.deriving.probe import Call
from mlxnode.server.notation.notation import Field

Literal = list[str | Field]


class Unreadable(Exception):
    """The template does not write calls in a way that a notation can describe."""


class _Span(NamedTuple):
    """``text[start:end]`` of a rendered text is ``field``."""

    start: int
    end: int
    field: Field


@dataclass
class RenderedCalls:
    """``lead``, a call, ``between`` and a second call if there is one, ``tail``.

    ``middle`` is a call from its first field to its last. ``item`` has the texts around the
    keys and values of two arguments, from the first key to the last value.
    """

    lead: str
    middle: Literal
    between: str | None
    tail: str
    has_json: bool
    item: tuple[str, str, str]

    @classmethod
    def of(cls, text: str, calls: Sequence[Call]) -> "RenderedCalls":
        """Divide ``text``, in which one or two ``calls`` are rendered.

        Raises:
            Unreadable: something is missing, or is written twice.
        """
        spans = [_spans(text, call) for call in calls]
        first, last = spans[0], spans[-1]
        if [span.field for span in first] != [span.field for span in last]:
            raise Unreadable("the template writes two calls in two ways")
        [arguments] = [span for span in first if span.field is Field.ARGUMENTS]
        written = text[arguments.start : arguments.end]
        has_json = written.startswith("{")
        return cls(
            text[: first[0].start],
            _middle(text, first, last),
            text[first[-1].end : last[0].start] if len(calls) == 2 else None,
            text[last[-1].end :],
            has_json,
            ("", "", "") if has_json else _item(written, calls[0][1]),
        )

    def take(self, before_key: str, after_value: str) -> None:
        """Remove what belongs to the arguments from the texts around them."""
        if self.middle[-1] is not Field.ARGUMENTS or not isinstance(self.middle[-2], str):
            raise Unreadable("the arguments of a call are not at its end")
        self.middle[-2] = self.middle[-2].removesuffix(before_key)
        self.tail = self.tail.removeprefix(after_value)
        if self.between is not None:
            self.between = self.between.removeprefix(after_value)

    def shared_head(self, lead: str) -> Literal:
        """The text before the first field of each call, which ends ``lead`` and ``between``."""
        head: Literal = []
        for first, second in zip(
            reversed(atoms(lead)), reversed(atoms(self.between or "")), strict=False
        ):
            if (part := _shared(first, second)) is None:
                break
            head.insert(0, part)
        return list(joined(head))


def joined(parts: Sequence[str | Field]) -> tuple[str | Field, ...]:
    """``parts`` with neighbouring texts as one, and without empty texts."""
    result: Literal = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        elif part:
            result.append(part)
    return tuple(result)


def _shared(first: str, second: str) -> str | Field | None:
    """What ``first`` of the first call and ``second`` of the second call have in common."""
    if first == second:
        return first
    return Field.INDEX if (first, second) == ("0", "1") else None


def _middle(text: str, first: list[_Span], last: list[_Span]) -> Literal:
    middle: Literal = [first[0].field]
    for index in range(1, len(first)):
        own, other = (
            atoms(text[spans[index - 1].end : spans[index].start]) for spans in (first, last)
        )
        shared = list(map(_shared if first is not last else lambda a, _: a, own, other))
        if len(own) != len(other) or None in shared:
            raise Unreadable("the template writes two calls in two ways")
        middle += [*(part for part in shared if part is not None), first[index].field]
    return list(joined(middle)) if len(middle) > 1 else middle


def _spans(text: str, call: Call) -> list[_Span]:
    """The name, the arguments and the id of ``call`` in ``text``, in their order."""
    name, arguments, id = call
    if text.count(name) != 1 or text.count(id) > 1:
        raise Unreadable("the template writes the name of a call more than once")
    spans = [_Span(text.find(name), text.find(name) + len(name), Field.NAME)]
    if (at := text.find(id)) >= 0:
        spans.append(_Span(at, at + len(id), Field.ID))
    spans.append(_json_span(text, arguments) or _tagged_span(text, arguments))
    return sorted(spans)


def _json_span(text: str, arguments: dict[str, Any]) -> _Span | None:
    """The JSON object ``arguments`` in ``text``."""
    at = text.rfind("{", 0, text.find(next(iter(arguments))))
    try:
        found, end = json.JSONDecoder().raw_decode(text, max(at, 0))
    except json.JSONDecodeError:
        return None
    return _Span(at, end, Field.ARGUMENTS) if found == arguments else None


def _tagged_span(text: str, arguments: dict[str, Any]) -> _Span:
    """From the first key to the last value of ``arguments`` in ``text``."""
    *_, last = map(str, arguments.values())
    at, end = text.find(next(iter(arguments))), text.rfind(last)
    if not 0 <= at < end:
        raise Unreadable("the template does not write all arguments of a call")
    return _Span(at, end + len(last), Field.ARGUMENTS)


def _item(written: str, arguments: dict[str, Any]) -> tuple[str, str, str]:
    """The texts before the first value, between the arguments, and before the second value."""
    (key, first), (other, second) = arguments.items()
    before, _, rest = written.removeprefix(key).partition(str(first))
    between, _, rest = rest.partition(other)
    if not rest.endswith(str(second)):
        raise Unreadable("the template does not write all arguments of a call")
    return before, between, rest.removesuffix(str(second))
