"""Makes the arguments of a call fit the schema of the function, where there is one way to."""

from typing import Any

from mlxnode.server.notation.tool_use import Function
from mlxnode.server.parsing.values import read_value

# What is deeper, or comes after so many steps, is passed on as it is.
_MAX_DEPTH = 64
_MAX_STEPS = 100_000

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
_TYPES |= {dict: "object", type(None): "null"}
_NAMED = frozenset({*_TYPES.values()})


class Misfit(ValueError):
    """The arguments do not fit the schema of the function."""


class RawText(str):
    """The text of a value without quotes: a string or JSON, as the schema says."""


def fit_arguments(
    function: Function, arguments: dict[str, Any], *, is_loose: bool = False
) -> dict[str, Any]:
    """``arguments``, converted to the types of the parameters of ``function``.

    Names and types are checked as far as the schema tells them. Missing arguments, and names
    that the schema does not know, are left to the client unless the schema is closed. With
    ``is_loose``, a number is text where the schema wants text.

    Raises:
        Misfit: they cannot be converted.
    """
    schema = function.parameters or {}
    fitted = _Fitting(schema, is_loose).fit(arguments, schema)
    if not isinstance(fitted, dict):
        raise Misfit("the arguments are no object")
    return fitted


def needs_arguments(function: Function) -> bool:
    """True if a call of ``function`` without any arguments cannot be right."""
    return bool((function.parameters or {}).get("required"))


def parameter_names(function: Function) -> list[str]:
    """The names that the schema of ``function`` lists at its top."""
    properties = (function.parameters or {}).get("properties")
    return [str(name) for name in properties] if isinstance(properties, dict) else []


class _Fitting:
    def __init__(self, root: dict[str, Any], is_loose: bool):
        self._root = root
        self._is_loose = is_loose
        self._num_steps = 0

    def fit(
        self,
        value: Any,
        schema: Any,
        depth: int = 0,
        *,
        is_exact: bool = False,
        is_closed: bool = True,
    ) -> Any:
        """``value`` as ``schema`` has it.

        ``is_exact``: no value may be converted. ``is_closed``: names that the schema does not
        know may be refused.
        """
        self._num_steps += 1
        if schema is False:
            raise Misfit("no value is allowed here")
        if not isinstance(schema, dict) or self._num_steps > _MAX_STEPS or depth > _MAX_DEPTH:
            return self._of_text(value, None) if isinstance(value, RawText) else value
        types = self._types(schema, 0)
        if not is_exact or isinstance(value, RawText):
            value = self._converted(value, types)
        if types is not None and _type_of(value) not in types:
            raise Misfit(f"{_type_of(value)} is not one of {sorted(types)}")
        options = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(options, list) and not any(_same(value, option) for option in options):
            raise Misfit("the value is not one of those that are allowed")
        value = self._fit_parts(value, schema, depth, is_exact)
        if isinstance(value, dict):
            return self._fit_object(value, schema, depth, is_exact, is_closed)
        if isinstance(value, list):
            return self._fit_array(value, schema, depth, is_exact)
        return value

    # --- types ----------------------------------------------------------------------

    def _types(self, schema: Any, depth: int) -> set[str] | None:
        """The types that ``schema`` allows; None for all."""
        self._num_steps += 1
        if not isinstance(schema, dict) or depth > 8 or self._num_steps > _MAX_STEPS:
            return None
        found: list[set[str] | None] = []
        kind = schema.get("type")
        named = {kind} if isinstance(kind, str) else kind
        if isinstance(named, set | list):
            names = {name for name in named if isinstance(name, str)}
            found.append(names | {"null"} if schema.get("nullable") is True else names)
        if isinstance(schema.get("enum"), list):
            found.append({_type_of(option) for option in schema["enum"]})
        if "const" in schema:
            found.append({_type_of(schema["const"])})
        if "$ref" in schema:
            found.append(self._types(self._resolve(schema["$ref"]), depth + 1))
        found += [self._types(part, depth + 1) for part in _list(schema, "allOf")]
        for key in ("anyOf", "oneOf"):
            branches = [self._types(part, depth + 1) for part in _list(schema, key)]
            if branches and None not in branches:
                found.append({name for branch in branches for name in branch or ()})
        types: set[str] | None = None
        for some in found:
            if some is None or not some <= _NAMED:
                continue
            wide = some | {"integer"} if "number" in some else some
            types = wide if types is None else types & wide
        return types

    def _resolve(self, reference: Any) -> Any:
        """The part of the schema that ``reference`` points to; None if there is none."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        part: Any = self._root
        for key in reference[1:].split("/")[1:]:
            key = key.replace("~1", "/").replace("~0", "~")
            part = part.get(key) if isinstance(part, dict) else None
        return part

    # --- one value ------------------------------------------------------------------

    def _converted(self, value: Any, types: set[str] | None) -> Any:
        if isinstance(value, RawText):
            return self._of_text(value, types)
        if types is None or _type_of(value) in types:
            return value
        if isinstance(value, float) and value.is_integer() and "integer" in types:
            return int(value)
        if isinstance(value, str) and "string" not in types:
            return self._of_text(value, types)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self._is_loose and is_number and "string" in types and not types & {"number"}:
            return str(value)
        return value

    def _of_text(self, text: str, types: set[str] | None) -> Any:
        """The value that ``text`` stands for."""
        if types == {"string"}:
            return str(text)
        try:
            value = read_value(text.strip())
        except ValueError:
            return str(text)
        if isinstance(value, float) and value.is_integer() and types and "number" not in types:
            value = int(value)
        if isinstance(value, str) or (types is not None and _type_of(value) not in types):
            return str(text)
        return value

    def _fit_parts(self, value: Any, schema: dict[str, Any], depth: int, is_exact: bool) -> Any:
        """``value`` as the schemas within ``schema`` that hold for the same value have it."""
        parts = _list(schema, "allOf")
        if "$ref" in schema:
            parts = [*parts, self._resolve(schema["$ref"])]
        for part in parts:
            is_closed = len(parts) == 1 and "properties" not in schema
            value = self.fit(value, part, depth + 1, is_exact=is_exact, is_closed=is_closed)
        for key in ("anyOf", "oneOf"):
            if branches := _list(schema, key):
                is_closed = not parts and "properties" not in schema
                value = self._fit_one(value, branches, depth, is_exact, is_closed)
        return value

    def _fit_one(
        self, value: Any, branches: list[Any], depth: int, is_exact: bool, is_closed: bool
    ) -> Any:
        for exact in (True,) if is_exact else (True, False):
            for branch in branches:
                try:
                    return self.fit(
                        value, branch, depth + 1, is_exact=exact, is_closed=is_closed
                    )
                except Misfit:
                    continue
        raise Misfit("the value fits none of the alternatives")

    # --- objects and arrays ---------------------------------------------------------

    def _fit_object(
        self,
        value: dict[str, Any],
        schema: dict[str, Any],
        depth: int,
        is_exact: bool,
        is_closed: bool,
    ) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = _list(schema, "required")
        others = schema.get("additionalProperties", True)
        if any(key in schema for key in ("allOf", "anyOf", "oneOf", "$ref", "if")):
            is_closed = False
        fitted: dict[str, Any] = {}
        for key, item in value.items():
            if key in properties:
                part = properties[key]
                types = self._types(part, 0)
                if item is None and key not in required and types and "null" not in types:
                    continue  # null for an argument that may be left out
            elif schema.get("patternProperties") or (others is False and not is_closed):
                part = True  # Patterns are not run here: their time is not bounded.
            elif others is False:
                raise Misfit(f"there is no parameter {key!r}")
            else:
                part = others
            fitted[key] = self.fit(item, part, depth + 1, is_exact=is_exact)
        return fitted

    def _fit_array(
        self, value: list[Any], schema: dict[str, Any], depth: int, is_exact: bool
    ) -> list[Any]:
        first = _list(schema, "prefixItems")
        rest = schema.get("items", True)
        return [
            self.fit(item, first[i] if i < len(first) else rest, depth + 1, is_exact=is_exact)
            for i, item in enumerate(value)
        ]


def _list(schema: dict[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _type_of(value: Any) -> str:
    return "string" if isinstance(value, str) else _TYPES.get(type(value), "object")


def _same(value: Any, option: Any) -> bool:
    return value == option and isinstance(value, bool) == isinstance(option, bool)
