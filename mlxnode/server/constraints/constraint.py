"""Constraints: a regex, a schema, a list of choices or a grammar that the answer must follow.

Each becomes one grammar in llguidance's JSON form, which is compiled here once. So the client
of a bad grammar gets an error, and the engine never gets the grammar.
"""

import asyncio
import functools
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from llguidance import LLTokenizer, TokenizerWrapper, regex_to_lark

from mlxnode.grammar import GrammarError, compile_grammar, compile_thread, try_mask
from mlxnode.server.errors import InvalidRequest

MAX_SCHEMA_BYTES = 65_536  # as compact JSON; the largest one compiles in half a second
MAX_SCHEMA_DEPTH = 100  # llguidance's parser takes 128 levels, its own wrapping included
MAX_TEXT_BYTES = 16_384  # of a regex or a Lark grammar, which can be costly for their size

# One space, or a line break with indentation, wherever JSON allows white space. Without a
# bound, small models fill their answers with white space.
_WHITESPACE = r" |\n {0,20}"
_NUM_TOKENS = 2**19  # more than any model has
_BRACE = ord("{")  # the token of a byte is the byte's number
# RFC 3339 has a year 0, which programming languages do not have, and any number of digits of a
# second, which small models use.
_YEAR = "(?:[1-9]|0[1-9]|00[1-9]|000[1-9])"
_SECONDS = r"[^.]*(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9:]{5})"
_DATES = {
    "date": f"^{_YEAR}",
    "time": f"^{_SECONDS}$",
    "date-time": f"^{_YEAR}{_SECONDS}$",
}
_VALUES = ("const", "enum", "default", "examples")  # keywords whose values are no schemas


@dataclass(frozen=True)
class Constraint:
    """A grammar that the answer must follow, and the request parameter that it comes from."""

    grammar: str
    param: str

    @classmethod
    def json(cls, schema: Mapping[str, Any], param: str, *, strict: bool = True) -> Self:
        """JSON that is valid under ``schema``; see ``json_grammar``. Raises InvalidRequest."""
        return cls(json_grammar(schema, param, strict=strict), param)

    @classmethod
    def regex(cls, regex: str, param: str) -> Self:
        """A text that matches ``regex``. Raises InvalidRequest if ``regex`` is too large."""
        _check_text_size(regex, param)
        return cls(regex_grammar(regex), param)

    @classmethod
    def choice(cls, choices: list[str], param: str) -> Self:
        """One of these texts. Raises InvalidRequest if the texts are too large."""
        _check_text_size("".join(choices), param)
        return cls(choice_grammar(choices), param)

    @classmethod
    def lark(cls, lark: str, param: str) -> Self:
        """A text of the grammar ``lark``. Raises InvalidRequest if ``lark`` is too large."""
        _check_text_size(lark, param)
        return cls(lark_grammar(lark), param)


async def check_grammar(grammar: str, param: str) -> None:
    """Compile ``grammar`` in a thread, for a vocabulary of single bytes.

    Raises:
        InvalidRequest: naming ``param`` and the reason.
    """
    try:
        await asyncio.wrap_future(_thread().submit(_try_grammar, grammar))
    except GrammarError as error:
        raise refusal(param, str(error)) from error


def json_grammar(schema: Mapping[str, Any], param: str, *, strict: bool = True) -> str:
    """The grammar of the JSON texts that are valid under ``schema``.

    Without ``strict``, keywords that cannot be enforced are ignored.

    Raises:
        InvalidRequest: naming ``param``; the schema is too large or too deep.
    """
    return _grammar(schema_part(schema, param, strict))


def regex_grammar(regex: str) -> str:
    r"""The grammar of the texts that match the whole of ``regex`` (Rust's syntax).

    \d is an ASCII digit.
    """
    quoted = regex_to_lark(regex, "d").replace("\n", r"\n")
    return _grammar(lark_part(f"start: /{quoted}/"))


def choice_grammar(choices: list[str]) -> str:
    """The grammar of exactly these texts."""
    return _grammar(lark_part("start: " + " | ".join(map(json.dumps, choices))))


def lark_grammar(lark: str) -> str:
    """The grammar ``lark``, in llguidance's variant of Lark's syntax."""
    return _grammar(lark_part(lark))


def lark_part(lark: str) -> dict[str, Any]:
    """``lark`` as one of the grammars in llguidance's list."""
    return {"lark_grammar": lark}


def schema_part(schema: Mapping[str, Any], param: str, strict: bool) -> dict[str, Any]:
    """``schema`` as one of the grammars in llguidance's list, without its own options."""
    _check_schema(schema, param, strict)
    options = {"whitespace_pattern": _WHITESPACE, "lenient": not strict}
    return {"json_schema": {**_with_usual_dates(schema), "x-guidance": options}}


def too_large(param: str, size: int, limit: int) -> InvalidRequest:
    """The error for a grammar of more than ``limit`` bytes."""
    return refusal(param, f"it has {size} bytes, at most {limit} are accepted")


def refusal(param: str, reason: str) -> InvalidRequest:
    """The error for a grammar that cannot be used."""
    return InvalidRequest(f"Invalid '{param}': {reason}.", param=param, code="invalid_grammar")


def _grammar(part: dict[str, Any]) -> str:
    return json.dumps({"grammars": [part]})


def _with_usual_dates(node: Any) -> Any:
    """The schema ``node`` with bounds of ``_DATES`` on its dates and times."""
    if isinstance(node, list):
        return [_with_usual_dates(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    node = {
        key: value if key in _VALUES else _with_usual_dates(value)
        for key, value in node.items()
    }
    if isinstance(form := node.get("format"), str) and form in _DATES:
        node.setdefault("pattern", _DATES[form])
    return node


def _check_schema(schema: Mapping[str, Any], param: str, strict: bool) -> None:
    """Refuse a schema that is too large, or that llguidance does not follow exactly."""
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        for node in level:
            if strict and isinstance(node, Mapping):
                _check_min_properties(node, param)
        level = [child for node in level for child in _children(node)]
        if not level:
            break
    else:
        raise refusal(param, f"it is nested more than {MAX_SCHEMA_DEPTH} levels deep")
    size = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_SCHEMA_BYTES:
        raise too_large(param, size, MAX_SCHEMA_BYTES)


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, Mapping):
        return node.values()
    return node if isinstance(node, list) else ()


def _check_min_properties(schema: Mapping[str, Any], param: str) -> None:
    # A key with a free name can be repeated: two pairs are not always two properties.
    least, required = schema.get("minProperties"), schema.get("required")
    num_required = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, num_required):
        raise refusal(
            param,
            f"minProperties can be at most 1 or the number of required properties, got {least}",
        )


def _check_text_size(text: str, param: str) -> None:
    if (size := len(text.encode())) > MAX_TEXT_BYTES:
        raise too_large(param, size, MAX_TEXT_BYTES)


def _try_grammar(grammar: str) -> None:
    matcher = compile_grammar(_byte_tokenizer(), grammar)
    # Too many properties of an object are an error only after its brace.
    if matcher.validate_tokens([_BRACE]):
        matcher.consume_token(_BRACE)
    try_mask(matcher)


@functools.cache
def _thread() -> ThreadPoolExecutor:
    return compile_thread("grammar")


@functools.cache
def _byte_tokenizer() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()), slices=[])


class _Bytes:
    """A vocabulary of the 256 bytes and an end token, in the form that llguidance takes.

    The ids after them, which a grammar of a model's markers may name, are tokens without text.
    """

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([i]) for i in range(256)), b"<end>", *[b""] * (_NUM_TOKENS - 257))
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
