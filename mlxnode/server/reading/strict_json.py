"""Reads JSON that can be read in one way only, which Python's own reader does not do."""

import json
import math
import sys
from typing import Any

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.json_text import MAX_DEPTH, TooDeep, load_json
from mlxnode.server.reading.shape import check_values

_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}
_SHOWN = 100  # characters of a key or number in an error


def type_name(value: Any) -> str:
    """The JSON type of ``value``, as error messages name the type."""
    return _NAMES.get(type(value), "something else")


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``.

    A byte order mark is understood, and what ``load_json`` understands.

    Raises:
        InvalidRequest: the body is not UTF-8, not JSON or not an object, or has NaN, a
            number beyond a double, a repeated key, too many levels or too many values.
    """
    if not body or body.isspace():
        raise InvalidRequest("The body is empty: send a JSON object")
    if b"\0" in body[:4]:
        raise InvalidRequest("The body is UTF-16 or UTF-32: JSON is sent as UTF-8")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not valid UTF-8 at byte {error.start}") from error
    check_values(text)
    value = _load(text)
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body must be a JSON object, got {type_name(value)}")
    return value


def _load(text: str) -> Any:
    try:
        return load_json(
            text,
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite_number,
        )
    except TooDeep as error:
        raise InvalidRequest(
            f"The body is nested too deeply: at most {MAX_DEPTH} levels of objects and arrays "
            "are accepted"
        ) from error
    except (json.JSONDecodeError, _Ambiguous) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from error
    except ValueError as error:  # int() has a limit, as its time is quadratic
        limit = sys.get_int_max_str_digits()
        raise InvalidRequest(
            f"The body is not valid JSON: an integer has more than {limit} digits"
        ) from error


class _Ambiguous(ValueError):
    """What JSON does not have, or what others read in another way."""


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = key[:_SHOWN].encode("utf-8", "replace").decode()
                raise _Ambiguous(f"the key '{shown}' is given twice")
            seen.add(key)
    return value


def _refuse_constant(name: str) -> float:
    raise _Ambiguous(f"{name} is not a JSON number")


def _finite_number(text: str) -> float:
    """The value of a number with a point or exponent; to JSON, 1.0 is an integer like 1."""
    value = float(text)
    if math.isinf(value):
        raise _Ambiguous(f"the number {text[:_SHOWN]} is too large")
    return int(value) if value.is_integer() else value
