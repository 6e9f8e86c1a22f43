"""The keywords of numbers, strings and single values, as far as llguidance enforces them."""

from collections.abc import Mapping
from typing import Any

from mlxnode.server.constraints.document import Document
from mlxnode.server.constraints.patterns import translate
from mlxnode.server.constraints.trial import problem_of

MAX_COUNT = 2**31 - 1  # llguidance fails with larger lengths; no answer gets there

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_PLAIN_BOUND = 2**53  # llguidance writes whole numbers up to here without loss
# RFC 3339 has a year 0, which programming languages do not have, and any number of digits of a
# second, which small models use.
_YEAR = "(?:[1-9]|0[1-9]|00[1-9]|000[1-9])"
_SECONDS = r"[^.]*(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9:]{5})"
_DATES = {
    "date": f"^{_YEAR}",
    "time": f"^{_SECONDS}$",
    "date-time": f"^{_YEAR}{_SECONDS}$",
}


def number_keywords(document: Document, node: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds of a number; those that llguidance cannot enforce are left out."""
    out = {key: fields[key] for key in _NUMBERS if key in fields}
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(key), bool):  # draft 4
            is_exclusive = out.pop(key)
            if is_exclusive and bound in out:
                out[key] = out[bound]
    if all(_is_exact_number(value) for key, value in out.items() if key != "multipleOf"):
        suspects = ["multipleOf"] if "multipleOf" in out else []
    else:
        suspects = list(reversed(out))
    kinds = [kind for kind in ("integer", "number") if kind in (fields.get("type") or kind)]
    for key in suspects:
        reason = next(filter(None, (problem_of({"type": kind, **out}) for kind in kinds)), None)
        if reason is None:
            break
        document.leave_out(node, key, reason)
        del out[key]
    return out


def string_keywords(document: Document, node: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a string; ``pattern`` is a list of patterns that it must all match."""
    out: dict[str, Any] = {
        key: as_count(fields[key]) for key in ("minLength", "maxLength") if key in fields
    }
    patterns: list[str] = []
    if (pattern := fields.get("pattern")) is not None:
        translated = translate(pattern)
        patterns += translated.patterns
        if translated.problem is not None:
            document.leave_out(node, "pattern", translated.problem)
    if (form := fields.get("format")) is not None and "string" in (
        fields.get("type") or ("string",)
    ):
        if problem_of({"type": "string", "format": form}) is None:
            out["format"] = form
            patterns += [_DATES[form]] if form in _DATES and pattern is None else []
        else:
            document.leave_out(node, "format", f"Unknown format: {form[:50]}")
    if patterns:
        out["pattern"] = patterns
    return out


def as_count(value: float) -> int:
    """A length that llguidance takes."""
    return int(min(value, MAX_COUNT))


def exact_values(document: Document, node: Any, keyword: str, values: list[Any]) -> list[Any]:
    """Those of ``values`` that llguidance writes without loss."""
    exact = [value for value in values if _is_exact(value)]
    if len(exact) < len(values):
        document.leave_out(node, keyword, "a number has too many digits")
    return exact


def _is_exact(value: Any) -> bool:
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, int | float) and not _is_exact_number(value):
            return False
    return True


def _is_exact_number(number: float) -> bool:
    has_exponent = isinstance(number, float) and "e" in str(number)
    return abs(number) <= _PLAIN_BOUND and not has_exponent
