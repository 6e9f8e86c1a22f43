"""A notation of calls, taken apart for reading: its tags, with the white space left free."""

import re
from dataclasses import dataclass

from mlxnode.server.notation.notation import CallNotation, Field, TaggedArguments, ValueStyle

# Hermes' tags: many models write them, whatever their own notation is.
COMMON_TAGS = ("<tool_call>", "</tool_call>")
# A tag such as <tool_call>, <function= or [TOOL_CALLS], or any other text without space.
_TOKEN = re.compile(r"<[^<>]*>?|\[[A-Z_/]+\]|\[|[^\s<\[]+")

Element = str | Field


@dataclass(frozen=True, kw_only=True)
class CallSyntax:
    """What can stand before, in and after calls.

    ``openers`` announce a call, ``closers`` may follow one, ``separators`` stand between two.
    ``name_closers`` end a name that stands between tags (``<function>NAME</function>``).
    ``head`` is what a call consists of before its arguments, if its name stands outside of
    the JSON: without it, a call is a JSON object that has the name. ``is_keyed``: the name is
    the object's only key. ``has_brackets``: tagged arguments stand in brackets.
    ``is_gemma``: strings stand in Gemma's quotes. ``has_late_id``: the model's
    id of a call comes after the arguments.
    """

    openers: tuple[str, ...]
    closers: tuple[str, ...]
    name_closers: tuple[str, ...]
    separators: tuple[str, ...]
    head: tuple[Element, ...]
    arguments: TaggedArguments | None
    is_keyed: bool
    has_brackets: bool
    is_gemma: bool
    is_bare: bool
    has_late_id: bool

    @classmethod
    def of(cls, calls: CallNotation) -> "CallSyntax":
        place = calls.call.index(Field.ARGUMENTS)
        before = (calls.start, *calls.call[:place])
        after = (*calls.call[place + 1 :], calls.end)
        name_place = before.index(Field.NAME) if Field.NAME in before else len(before)
        to_name = _literals(before[:name_place])
        style = calls.arguments
        has_brackets = style is not None and not style.before_key and not style.after_value
        closers = [token for literal in _literals(after) for token in tokens_of(literal)]
        has_name_in_json = style is None and any("{" in literal for literal in to_name)
        if has_name_in_json:
            opening, _, json_head = "".join(to_name).partition("{")
            head: tuple[Element, ...] = ()
            openers = _openers(tokens_of(opening.rstrip(" \t\n[")), opening.strip())
            closers = [token.lstrip("}") for token in closers]
            # A key for the name tells the name from a name that is a key.
            is_keyed = not json_head.strip().rstrip('"')
        else:
            head = _elements(before)
            if has_brackets and head[-1] in ("(", "{"):
                head = head[:-1]
                closers = [token.lstrip(")}") for token in closers]
            first = _elements(before[:name_place])
            names = [element for element in first if isinstance(element, str)]
            openers = _openers(names, names[0] if names else "")
            is_keyed = False
        return cls(
            openers=tuple(dict.fromkeys([*openers, COMMON_TAGS[0]])),
            closers=tuple(dict.fromkeys(filter(None, [*closers, COMMON_TAGS[1]]))),
            name_closers=tuple(f"</{tag[1:-1]}>" for tag in openers if tag[-1] == "="),
            separators=tuple({",", ";", *tokens_of(calls.separator)} - {*openers, *closers}),
            head=head,
            arguments=style,
            is_keyed=is_keyed,
            has_brackets=has_brackets,
            is_gemma=style is not None and style.style is ValueStyle.GEMMA,
            is_bare=calls.is_bare,
            has_late_id=Field.ID in after,
        )

    @property
    def lead(self) -> tuple[str, ...]:
        """What may stand before the name, or before the first field in front of it."""
        fields = [i for i, element in enumerate(self.head) if isinstance(element, Field)]
        before = self.head[: fields[0]] if fields else ()
        return (*self.openers, *(x for x in before if isinstance(x, str)))

    @property
    def stops(self) -> tuple[str, ...]:
        """What cannot stand between brackets, besides tags that begin with "<"."""
        return tuple(x for x in (*self.openers, *self.closers) if len(x) > 1 and x[0] == "[")


def tokens_of(literal: str) -> list[str]:
    """The tags and the words of ``literal``, without the white space between them."""
    return [token.strip() for token in _TOKEN.findall(literal)]


def _literals(parts: tuple[Element, ...]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]


def _elements(parts: tuple[Element, ...]) -> tuple[Element, ...]:
    elements: list[Element] = []
    for part in parts:
        elements += tokens_of(part) if isinstance(part, str) else [part]
    return tuple(elements)


def _openers(tokens: list[str], whole: str) -> list[str]:
    """Of the tokens before a name, those that announce a call: the tags; or else ``whole``."""
    tags = [token for token in tokens if len(token) > 1 and token[0] in "<["]
    if tokens and tokens[0] not in tags:
        tags.append(whole)
    # <function>NAME</function> for <function=NAME>
    return [*tags, *(f"{tag[:-1]}>" for tag in tags if tag[0] == "<" and tag[-1] == "=")]
