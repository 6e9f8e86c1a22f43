"""From a JSON object to a valid body, or to an error that names the field and the reason."""

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.http.strict_json import type_name

BodyType = TypeVar("BodyType", bound=Body)
Path = list[int | str]  # the position of a field in a body: keys and indices

# pydantic's types of errors, each with our words for it.
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


def validate(schema: type[BodyType], raw: dict[str, Any]) -> tuple[BodyType, list[str]]:
    """``raw`` as a ``schema``, and the names of its unknown fields.

    Raises:
        InvalidRequest: naming the first invalid field, with the reason.
    """
    try:
        body = schema.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, raw) from error
    return body, list(_unknown_fields(body, raw, []))


# --- fields that a body does not declare ----------------------------------------------


def _unknown_fields(body: Body, raw: dict[str, Any], path: Path) -> Iterator[str]:
    """The fields of ``raw``, at any depth, that are neither declared nor neutral.

    Raises:
        InvalidRequest: a neutral field has a value that the server does not support.
    """
    declared = {field.alias or name: name for name, field in type(body).model_fields.items()}
    for name, value in raw.items():
        here = [*path, name]
        if name in declared:
            yield from _unknown_fields_within(getattr(body, declared[name]), value, here)
        elif name not in body.neutral:
            yield _format_path(here)
        elif value is not None and not _is_neutral(value, body.neutral[name]):
            raise _unsupported(_format_path(here), body.neutral[name])


def _unknown_fields_within(value: Any, raw: Any, path: Path) -> Iterator[str]:
    if isinstance(value, Body):
        yield from _unknown_fields(value, raw, path)
    elif isinstance(value, list) and value and isinstance(value[0], Body):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, raw[index], [*path, index])


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


# --- pydantic's errors in OpenAI's words ----------------------------------------------


def _explain(error: ValidationError, raw: dict[str, Any]) -> InvalidRequest:
    """The OpenAI error for pydantic's.

    For a union, pydantic reports an error of each branch. The branch that got furthest into
    the value is the branch that the client meant. Branches that fail at the same path are
    reported together.
    """
    located = [(_path(raw, detail), detail) for detail in error.errors()]
    path, _ = max(located, key=lambda pair: len(pair[0]))
    details = [detail for other, detail in located if other == path]
    param = _format_path(path)
    message, code = _describe(param, details)
    return InvalidRequest(message, param=param, code=code)


def _describe(param: str, details: list[ErrorDetails]) -> tuple[str, str]:
    """Message and code for the errors that pydantic found in the field ``param``."""
    first = details[0]
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    if kind == "missing":
        return f"Missing required parameter: '{param}'.", "missing_required_parameter"
    if all(detail["type"] in _EXPECTED for detail in details):
        expected = " or ".join(dict.fromkeys(_EXPECTED[detail["type"]] for detail in details))
        got = type_name(value)
        message = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
        return message, "invalid_type"
    if kind in _BOUNDS:
        suffix, key, sign = _BOUNDS[kind]
        number = "decimal" if isinstance(context[key], float) else "integer"
        message = f"Invalid '{param}': expected a value {sign} {context[key]}, got {value}."
        return message, f"{number}_{suffix}"
    for detail in details:
        if detail["type"] in _LENGTHS:
            code, expected = _LENGTHS[detail["type"]]
            expected = expected.format(**detail.get("ctx", {}))
            return f"Invalid '{param}': expected {expected}, got {len(value)}.", code
    if kind == "literal_error":
        message = f"Unsupported value: '{param}' must be {context['expected']}, got {value!r}."
        return message, "unsupported_value"
    if kind == "not_both":
        return first["msg"], "invalid_parameter_combination"
    return f"Invalid '{param}': {first['msg']}.", kind


def _path(raw: Any, detail: ErrorDetails) -> Path:
    """pydantic's location without the names of union branches, which are not in the body."""
    path: Path = []
    for part in detail["loc"]:
        if _is_within(raw, part):
            raw = raw[part]
            path.append(part)
    if detail["type"] == "missing" and path != list(detail["loc"]):
        path.append(detail["loc"][-1])
    return path


def _is_within(raw: Any, part: int | str) -> bool:
    if isinstance(raw, dict):
        return part in raw
    return isinstance(raw, list) and isinstance(part, int)


def _format_path(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
