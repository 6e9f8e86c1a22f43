"""Reads off rendered calls how arguments are written one by one."""

import dataclasses
from dataclasses import dataclass

from mlxnode.server.deriving.atoms import common_prefix, common_suffix
from mlxnode.server.deriving.rendered_calls import RenderedCalls, Unreadable, joined
from mlxnode.server.notation.notation import (
    GEMMA_QUOTE,
    CallNotation,
    Field,
    TaggedArguments,
    ValueStyle,
)


@dataclass(frozen=True)
class Tags:
    """``after_string`` is what stands after a value that is a string, its quote included."""

    notation: TaggedArguments
    after_string: str

    @property
    def before_key(self) -> str:
        return self.notation.before_key

    def rotated(self, calls: CallNotation) -> CallNotation:
        """The same notation, with the line end before an argument behind the one before it."""
        tags = self.notation
        space = tags.before_key[: len(tags.before_key) - len(tags.before_key.lstrip())]
        last = calls.call[-1]
        if not space or tags.separator or not isinstance(last, str):
            return calls
        if not last.startswith(space):
            return calls
        arguments = dataclasses.replace(
            tags,
            before_key=tags.before_key.removeprefix(space),
            after_value=tags.after_value + space,
        )
        at = calls.call.index(Field.ARGUMENTS)
        call = [*calls.call[:at], space, Field.ARGUMENTS, last.removeprefix(space)]
        return dataclasses.replace(calls, call=joined(call), arguments=arguments)


def read_tags(strings: RenderedCalls, numbers: RenderedCalls, *, has_python: bool) -> Tags:
    """The notation of the arguments of two calls, one with strings and one with numbers.

    ``has_python``: true is written ``True``.

    Raises:
        Unreadable: strings are quoted in no known way.
    """
    before_value, between, _ = numbers.item
    before_string, between_strings, _ = strings.item
    if not isinstance(strings.middle[-2], str):
        raise Unreadable("the arguments of a call are not after its name")
    if before_value.startswith(("': ", '": ')):
        raise Unreadable("the template writes the arguments as an object of another syntax")
    before_key = common_suffix(strings.middle[-2], between)
    rest = between.removesuffix(before_key)
    after_value = common_prefix(rest, numbers.tail)
    separator = rest.removeprefix(after_value)
    before_other = None
    quote = before_string.removeprefix(before_value)
    if before_string == before_value:
        style = ValueStyle.TEXT
    elif between_strings == between:
        style, quote, before_other = ValueStyle.TEXT, "", before_value
        before_value = before_string
    elif between_strings == quote + between and before_string == before_value + quote:
        style = _style(quote, has_python)
    else:
        raise Unreadable("the template writes strings in an unknown way")
    notation = TaggedArguments(
        before_key=before_key,
        before_value=before_value,
        after_value=after_value,
        separator=separator,
        style=style,
        before_other_value=before_other,
    )
    return Tags(notation, quote + after_value)


def _style(quote: str, has_python: bool) -> ValueStyle:
    if quote == GEMMA_QUOTE:
        return ValueStyle.GEMMA
    if quote == "'" or (quote == '"' and has_python):
        return ValueStyle.PYTHON
    if quote == '"':
        return ValueStyle.JSON
    raise Unreadable(f"the template quotes strings with {quote!r}")
