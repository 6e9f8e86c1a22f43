"""From a JSON object to a valid body, or to an error that names the field and the reason."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.loose import Path, mend
from mlxnode.server.reading.strict_json import type_name

BodyType = TypeVar("BodyType", bound=Body)

# Each round mends one more field, of all items of a list. A body that needs more rounds is
# refused although its schema, which cannot count them, has it: the work has to be bounded.
_ROUNDS = 6
MAX_NAMES = 64  # fields that change nothing, of which a response header names the first ones
_SHOWN = 100  # characters of a name or value in an error

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
    "greater_than": ("below_min_value", "gt", ">"),
    "greater_than_equal": ("below_min_value", "ge", ">="),
    "less_than_equal": ("above_max_value", "le", "<="),
}
_OTHER_KINDS = frozenset(get_args(ErrorType))
_LENGTHS = {
    "too_short": ("array_below_min_length", "at least {min_length} item(s)"),
    "too_long": ("array_above_max_length", "at most {max_length} item(s)"),
    "string_too_long": ("string_above_max_length", "at most {max_length} character(s)"),
    "string_too_short": ("string_below_min_length", "at least {min_length} character(s)"),
}


def validate(
    schema: type[BodyType], raw: dict[str, Any], *, strict: bool = False
) -> tuple[BodyType, list[str]]:
    """``raw`` as a ``schema``, and the names of its fields that change nothing.

    ``strict``: fields that nobody documents are refused. Values in ``raw`` that are mended
    (``formats.loose``) are replaced in it.

    Raises:
        InvalidRequest: naming the first invalid field, with the reason.
    """
    own, sent = schema.respelled(raw)
    body = _read(schema, own, sent)
    fields = _other_fields(body, own, [])
    if strict:
        fields = map(_documented, fields)
    names = [_format_path(path) for path, _ in itertools.islice(fields, MAX_NAMES)]
    for _ in fields:
        pass  # each is still checked
    unread = schema.unread(raw, own)
    for name, field in unread.items():
        _read(schema, own | {field: raw[name]}, {field: name})  # to be valid, if not used
    return body, [*names, *unread, *body.idle][:MAX_NAMES]


def _documented(field: tuple[Path, bool]) -> tuple[Path, bool]:
    path, is_known = field
    if not is_known:
        name = _format_path(path)
        raise InvalidRequest(
            f"Unrecognized request argument supplied: {name}",
            param=name,
            code="unknown_parameter",
        )
    return field


def _read(schema: type[BodyType], own: dict[str, Any], sent: dict[str, str]) -> BodyType:
    """``own`` as a ``schema``; ``sent``: see ``Body.respelled``."""
    for number in range(1, _ROUNDS + 1):
        try:
            return schema.model_validate(own)
        except ValidationError as error:
            details = error.errors(include_url=False)
            located = [(_path(own, detail), detail) for detail in details]
            failures = (
                (path, detail["type"], detail["input"])
                for path, detail in located
                if len(path) == 1 or (path and path[0] not in schema.exact)
            )
            if number == _ROUNDS or not mend(own, failures):
                raise _explain(located, sent) from error
    raise AssertionError("the last round returns or raises")


# --- fields that a body does not declare ----------------------------------------------


def _other_fields(body: Body, raw: dict[str, Any], path: Path) -> Iterator[tuple[Path, bool]]:
    """The fields of ``raw``, at any depth, that change nothing; True: they are documented.

    Raises:
        InvalidRequest: a neutral field has a value that the server does not support.
    """
    if body.model_config.get("extra") == "allow":
        return  # a thing of an unknown kind, whose fields nobody knows
    declared = {field.alias or name: name for name, field in type(body).model_fields.items()}
    for name, value in raw.items():
        here = [*path, name]
        if name in declared:
            yield from _other_fields_within(getattr(body, declared[name]), value, here)
        elif name in body.harmless:
            if value is not None and not _is_one_of(value, body.harmless[name]):
                yield here, True
        elif name not in body.neutral:
            yield here, False
        elif value is not None and not _is_one_of(value, body.neutral[name]):
            raise _unsupported(_format_path(here), body.neutral[name])


def _other_fields_within(value: Any, raw: Any, path: Path) -> Iterator[tuple[Path, bool]]:
    if isinstance(value, Body):
        yield from _other_fields(value, raw, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, Body):
                yield from _other_fields(item, raw[index], [*path, index])


def _is_one_of(value: Any, listed: tuple[Any, ...]) -> bool:
    return any(
        known is ANY or (value == known and isinstance(value, bool) == isinstance(known, bool))
        for known in listed
    )


def _unsupported(name: str, neutral: tuple[Any, ...]) -> InvalidRequest:
    accepted = " or ".join(json.dumps(value) for value in neutral)
    hint = f" Only {accepted} is accepted." if accepted else ""
    message = f"Unsupported parameter: '{name}' is not supported by this server.{hint}"
    return InvalidRequest(message, param=name, code="unsupported_parameter")


# --- pydantic's errors in OpenAI's words ----------------------------------------------


def _explain(located: list[tuple[Path, ErrorDetails]], sent: dict[str, str]) -> InvalidRequest:
    """The OpenAI error for pydantic's, with their paths; ``sent``: see ``Body.respelled``.

    For a union, pydantic reports an error of each branch. The branch that got furthest into
    the value is the branch that the client meant. Branches that fail at the same path are
    reported together.
    """
    path, _ = max(located, key=lambda pair: len(pair[0]))
    details = [detail for other, detail in located if other == path]
    shown = [sent.get(str(part), part) for part in path[:1]] + path[1:]
    param = _format_path(shown)
    message, code = _describe(param, details)
    return InvalidRequest(message, param=param, code=code)


def _describe(param: str, details: list[ErrorDetails]) -> tuple[str, str]:
    """Message and code for the errors that pydantic found in the field ``param``."""
    # Of a union, the branch that has the type of the value says what is wrong with the value.
    first = next((d for d in details if d["type"] not in _EXPECTED), details[0])
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
        bound = context[key]
        message = f"Invalid '{param}': expected a value {sign} {bound}, got {_shown(value)}."
        return message, f"{number}_{suffix}"
    for detail in details:
        if detail["type"] in _LENGTHS:
            code, expected = _LENGTHS[detail["type"]]
            expected = expected.format(**detail.get("ctx", {}))
            return f"Invalid '{param}': expected {expected}, got {len(value)}.", code
    if kind == "literal_error":
        expected = context["expected"]
        message = f"Unsupported value: '{param}' must be {expected}, got {_shown(value)}."
        return message, "unsupported_value"
    if kind == "not_both":
        return first["msg"], "invalid_parameter_combination"
    if kind == "string_pattern_mismatch":
        message = f"Invalid '{param}': expected a text like {context['pattern']}."
        return message, kind
    if kind in _OTHER_KINDS:  # whose words are about Python
        return f"Invalid '{param}': {_shown(value)} is not accepted.", kind
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
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part[:_SHOWN]}" for part in path
    )
    return text.removeprefix(".")


def _shown(value: Any) -> str:
    """``value`` as JSON; a large one, in words."""
    if isinstance(value, str):
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        return json.dumps(shown, ensure_ascii=False)
    if isinstance(value, (dict, list)):
        return type_name(value)
    return json.dumps(value)[:_SHOWN]
