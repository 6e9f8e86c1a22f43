"""Calls that are JSON objects with the name in them, in the forms that models write."""

import re
from typing import Any

from mlxnode.server.notation.tool_use import Function
from mlxnode.server.parsing.arguments import Misfit, fit_arguments, needs_arguments
from mlxnode.server.parsing.brackets import Misread
from mlxnode.server.parsing.call_list import ReadCall
from mlxnode.server.parsing.output import to_json
from mlxnode.server.parsing.values import read_value

NAME_KEYS = ("name", "tool_name", "function_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input", "tool_input")
_IDS = ("id", "tool_call_id", "call_id")
_OTHERS = ("type", "index", *_IDS)
# The keys with which the object of a call can begin.
FIRST_KEYS = frozenset({*NAME_KEYS, *_ARGUMENTS, *_OTHERS, "function"})
NAME_PREFIX = "functions."


def calls_in(text: str, functions: dict[str, Function]) -> list[ReadCall]:
    """The calls that ``text``, an object or a list of objects, makes.

    Raises:
        Misread: ``text`` is something else, or a call does not fit its function.
    """
    try:
        value = read_value(text)
    except (ValueError, RecursionError) as error:
        raise Misread from error
    values = value if isinstance(value, list) else [value]
    if not values:
        raise Misread
    return [_call_of(value, functions) for value in values]


def new_call(
    function: Function,
    arguments: dict[str, Any],
    own_id: str | None = None,
    *,
    is_loose: bool = False,
) -> ReadCall:
    """A call of ``function``.

    Raises:
        Misread: ``arguments`` do not fit it.
    """
    try:
        fitted = to_json(fit_arguments(function, arguments, is_loose=is_loose))
    except (Misfit, RecursionError) as error:
        raise Misread from error
    return ReadCall(function.name, fitted, own_id)


def without_arguments(function: Function, own_id: str | None = None) -> ReadCall:
    """A call of ``function`` that gives no arguments.

    Raises:
        Misread: the function needs some.
    """
    if needs_arguments(function):
        raise Misread
    return new_call(function, {}, own_id)


def _call_of(value: Any, functions: dict[str, Function]) -> ReadCall:
    if not isinstance(value, dict):
        raise Misread
    own_id = next((value[key] for key in _IDS if isinstance(value.get(key), str)), None)
    if isinstance(value.get("function"), dict):
        if not set(value) <= {"function", *_OTHERS}:
            raise Misread
        value = value["function"]
    elif isinstance(value.get("function"), str) and not any(key in value for key in NAME_KEYS):
        value = {("name" if key == "function" else key): item for key, item in value.items()}
    names = [key for key in NAME_KEYS if key in value]
    if not names and len(value) == 1:
        [(name, arguments)] = value.items()  # the name is the key
    elif len(names) == 1:
        name = value[names[0]]
        given = [key for key in _ARGUMENTS if key in value]
        if len(given) > 1 or not set(value) <= {names[0], *given, *_OTHERS}:
            raise Misread
        arguments = value[given[0]] if given else None
    else:
        raise Misread
    if not isinstance(name, str):
        raise Misread
    function = functions.get(name) or functions.get(name.removeprefix(NAME_PREFIX))
    if function is None:
        raise Misread
    return _with_arguments(function, arguments, own_id)


def _with_arguments(function: Function, arguments: Any, own_id: str | None) -> ReadCall:
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = read_value(arguments)
        except (ValueError, RecursionError) as error:
            raise Misread from error
    if arguments is None or arguments in ("", []):
        return without_arguments(function, own_id)
    if not isinstance(arguments, dict):
        raise Misread
    return new_call(function, arguments, own_id)


def head_pattern(names: list[str], *, is_keyed: bool) -> re.Pattern[str]:
    """What the object of a call begins with, up to its arguments; groups: name, id."""
    name = f'"(?P<name>{"|".join(map(re.escape, sorted(names, key=len, reverse=True)))})"'
    if is_keyed:
        return re.compile(rf"(?:\[\s*)?\{{\s*{name}(?P<id>)\s*:\s*(?=\{{)")
    own_id = rf'"(?:{"|".join(_IDS)}|index)"\s*:\s*(?:"(?P<id>[\w-]*)"|\d+)\s*,\s*'
    keys = rf'"(?:name|tool_name)"\s*:\s*{name}\s*,\s*"(?:arguments|parameters)"\s*:\s*'
    return re.compile(rf"(?:\[\s*)?\{{\s*(?:{own_id})?{keys}(?=\{{)")
