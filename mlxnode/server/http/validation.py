"""From the bytes of a body to a valid request, or an error that names what is wrong."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.body import ANY, Body

BodyType = TypeVar("BodyType", bound=Body)

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_JSON_TYPES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}
_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
}
_BOUNDS = {
    "greater_than_equal": ("below_min_value", "ge", ">="),
    "less_than_equal": ("above_max_value", "le", "<="),
}
_LENGTHS = {
    "too_short": ("array_below_min_length", "at least {min_length} item(s)"),
    "too_long": ("array_above_max_length", "at most {max_length} item(s)"),
    "string_too_long": ("string_above_max_length", "at most {max_length} character(s)"),
    "string_too_short": ("string_below_min_length", "at least {min_length} character(s)"),
}


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, by the letter of RFC 8259.

    Raises:
        InvalidRequest: not UTF-8, no JSON, no object; NaN, a number beyond a double,
            a key given twice, half a surrogate pair, too many levels.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite_number,
        )
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not valid UTF-8 at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("The body has an escape that is half a character") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply") from error
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        got = _JSON_TYPES[type(value)]
        raise InvalidRequest(f"The body must be a JSON object, got {got}")
    return value


def validate(schema: type[BodyType], raw: dict[str, Any]) -> tuple[BodyType, list[str]]:
    """``raw`` as a ``schema``, and the names of the fields that nobody documents.

    Raises:
        InvalidRequest: naming the first field that is wrong, and how.
    """
    try:
        body = schema.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, raw) from error
    return body, list(_undeclared(body, raw, []))


def _undeclared(body: Body, raw: dict[str, Any], path: list[int | str]) -> Iterator[str]:
    """The fields of ``raw``, at any depth, that ``body`` does not declare and nobody documents.

    Raises:
        InvalidRequest: a documented one has a value that would do nothing.
    """
    declared = {field.alias or name: name for name, field in type(body).model_fields.items()}
    for name, value in raw.items():
        here = [*path, name]
        if name in declared:
            yield from _undeclared_within(getattr(body, declared[name]), value, here)
        elif name not in body.neutral:
            yield _format_path(here)
        elif value is not None and not _is_neutral(value, body.neutral[name]):
            raise _unsupported(_format_path(here), body.neutral[name])


def _undeclared_within(value: Any, raw: Any, path: list[int | str]) -> Iterator[str]:
    if isinstance(value, Body):
        yield from _undeclared(value, raw, path)
    elif isinstance(value, list) and value and isinstance(value[0], Body):
        for index, item in enumerate(value):
            yield from _undeclared(item, raw[index], [*path, index])


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    return any(
        known is ANY or (value == known and isinstance(value, bool) == isinstance(known, bool))
        for known in neutral
    )


def _unsupported(name: str, neutral: tuple[Any, ...]) -> InvalidRequest:
    accepted = " or ".join(json.dumps(value) for value in neutral)
    hint = f" Only {accepted} is accepted." if accepted else ""
    message = f"Unsupported parameter: '{name}' is not supported by this server.{hint}"
    return InvalidRequest(message, param=name, code="unsupported_parameter")


def _explain(error: ValidationError, raw: dict[str, Any]) -> InvalidRequest:
    """The OpenAI error for pydantic's.

    Of a union, pydantic reports every branch: the branch that got furthest into the value
    is the one that was meant, and branches that fail at the same place are told together.
    """
    located = [(_path(raw, detail), detail) for detail in error.errors()]
    path, first = max(located, key=lambda pair: len(pair[0]))
    same = [detail for other, detail in located if other == path]
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    param = _format_path(path)
    if kind == "missing":
        message, code = f"Missing required parameter: '{param}'.", "missing_required_parameter"
    elif all(detail["type"] in _EXPECTED for detail in same):
        expected = " or ".join(dict.fromkeys(_EXPECTED[detail["type"]] for detail in same))
        got = _JSON_TYPES.get(type(value), "something else")
        message = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
        code = "invalid_type"
    elif kind in _BOUNDS:
        suffix, key, sign = _BOUNDS[kind]
        code = f"{'decimal' if isinstance(context[key], float) else 'integer'}_{suffix}"
        message = f"Invalid '{param}': expected a value {sign} {context[key]}, got {value}."
    elif any(detail["type"] in _LENGTHS for detail in same):
        detail = next(detail for detail in same if detail["type"] in _LENGTHS)
        code, expected = _LENGTHS[detail["type"]]
        expected = expected.format(**detail["ctx"])
        message = f"Invalid '{param}': expected {expected}, got {len(value)}."
    elif kind == "not_both":
        message, code = first["msg"], "invalid_parameter_combination"
    elif kind == "literal_error":
        message = f"Unsupported value: '{param}' must be {context['expected']}, got {value!r}."
        code = "unsupported_value"
    else:
        message, code = f"Invalid '{param}': {first['msg']}.", kind
    return InvalidRequest(message, param=param, code=code)


def _path(raw: Any, detail: Any) -> list[int | str]:
    """The part of a pydantic location that is in the body: without the names of branches."""
    path: list[int | str] = []
    for part in detail["loc"]:
        if (isinstance(raw, dict) and part in raw) or (
            isinstance(raw, list) and isinstance(part, int)
        ):
            raw = raw[part]
            path.append(part)
    if detail["type"] == "missing" and path != list(detail["loc"]):
        path.append(detail["loc"][-1])
    return path


def _format_path(path: list[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} is given twice")
            seen.add(key)
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite_number(text: str) -> float:
    """The value of a number with a point or exponent; to JSON, 1.0 is an integer like 1."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text} is too large")
    return int(value) if value.is_integer() else value
