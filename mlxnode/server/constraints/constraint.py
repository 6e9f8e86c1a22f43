"""Constraints: a regex, a schema, a list of choices or a grammar that the answer must follow.

Each becomes one grammar in llguidance's JSON form, which is compiled here once. So the client
of a bad grammar gets an error, and the engine never gets the grammar.
"""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from llguidance import regex_to_lark

from mlxnode.grammar import GrammarError
from mlxnode.server.constraints.document import refusal, too_large
from mlxnode.server.constraints.gbnf import gbnf_to_lark, is_gbnf
from mlxnode.server.constraints.schemas import prepared
from mlxnode.server.constraints.trial import in_thread, try_grammar

MAX_TEXT_BYTES = 16_384  # of a regex or a Lark grammar, which can be costly for their size

# One space, or a line break with indentation, wherever JSON allows white space. Without a
# bound, small models fill their answers with white space.
_WHITESPACE = r" |\n {0,20}"
# Without \u, which only other control characters need: a key spelled with it would be another
# spelling of a key that is already there.
_ESCAPES = 'nrbtf\\"'
_CONTROLS = re.compile(r"\\u00[01]|\\x\{")  # in a schema as JSON, patterns included


@dataclass(frozen=True)
class Constraint:
    """What the answer must follow, and the request parameter that says so.

    Either ``grammar`` or ``schema`` is set.
    """

    param: str
    grammar: str = ""
    schema: Mapping[str, Any] | None = None
    is_strict: bool = True  # refuse keywords of the schema that cannot be enforced

    @classmethod
    def json(cls, schema: Mapping[str, Any], param: str, *, strict: bool = True) -> Self:
        """JSON that is valid under ``schema``; see ``json_grammar``."""
        return cls(param, schema=schema, is_strict=strict)

    @classmethod
    def regex(cls, regex: str, param: str) -> Self:
        """A text that matches ``regex``. Raises InvalidRequest if ``regex`` is too large."""
        _check_text_size(regex, param)
        return cls(param, regex_grammar(regex))

    @classmethod
    def choice(cls, choices: list[str], param: str) -> Self:
        """One of these texts. Raises InvalidRequest if the texts are too large."""
        _check_text_size("".join(choices), param)
        return cls(param, choice_grammar(choices))

    @classmethod
    def of_grammar(cls, grammar: str, param: str) -> Self:
        """A text of ``grammar``, in llguidance's Lark or in GBNF.

        Raises:
            InvalidRequest: ``grammar`` is too large, or no GBNF.
        """
        _check_text_size(grammar, param)
        if not is_gbnf(grammar):
            return cls(param, lark_grammar(grammar))
        try:
            return cls(param, lark_grammar(gbnf_to_lark(grammar)))
        except ValueError as error:
            raise refusal(param, str(error)) from error

    async def checked_grammar(self, *, closed: bool = True) -> str:
        """The grammar, compiled once in a thread; ``closed``: see ``prepared``.

        Raises:
            InvalidRequest: naming ``param`` and the reason.
        """
        grammar = self.grammar
        if self.schema is not None:
            grammar = await in_thread(
                functools.partial(
                    json_grammar, self.schema, self.param, strict=self.is_strict, closed=closed
                )
            )
        await check_grammar(grammar, self.param)
        return grammar


async def check_grammar(grammar: str, param: str) -> None:
    """Compile ``grammar`` in a thread, for a vocabulary of single bytes.

    Raises:
        InvalidRequest: naming ``param`` and the reason.
    """
    try:
        await in_thread(functools.partial(try_grammar, grammar), len(grammar))
    except GrammarError as error:
        raise refusal(param, str(error)) from error


def json_grammar(
    schema: Mapping[str, Any], param: str, *, strict: bool = True, closed: bool = True
) -> str:
    """The grammar of the JSON texts that are valid under ``schema``; see ``prepared``.

    Raises:
        InvalidRequest: naming ``param``.
    """
    return _grammar(schema_part(schema, param, strict, closed=closed))


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


def schema_part(
    schema: Mapping[str, Any], param: str, strict: bool, *, closed: bool = True
) -> dict[str, Any]:
    """``schema`` as one of the grammars in llguidance's list; see ``prepared``."""
    return prepared_part(prepared(schema, param, strict=strict, closed=closed))


def prepared_part(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A prepared schema as one of the grammars in llguidance's list."""
    has_controls = _CONTROLS.search(json.dumps(schema)) is not None
    escapes = f"{_ESCAPES}u" if has_controls else _ESCAPES
    options = {"whitespace_pattern": _WHITESPACE, "json_allowed_escapes": escapes}
    return {"json_schema": {**schema, "x-guidance": options}}


def _grammar(part: dict[str, Any]) -> str:
    return json.dumps({"grammars": [part]})


def _check_text_size(text: str, param: str) -> None:
    if (size := len(text.encode())) > MAX_TEXT_BYTES:
        raise too_large(param, size, MAX_TEXT_BYTES)
