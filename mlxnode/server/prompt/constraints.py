"""From what a request says about the form of its answer to one grammar, compiled once to
see that the engine can: a bad one is refused here and never reaches it.
"""

import asyncio
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper, regex_to_lark

from mlxnode.grammar import GrammarError, compile_grammar, compile_thread, try_mask
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.schema import ResponseFormat
from mlxnode.server.formats.generation import GenerationBody
from mlxnode.server.prompt.tools import ToolUse

MAX_SCHEMA_BYTES = 65_536  # as compact JSON; such a schema compiles in half a second at most
MAX_SCHEMA_DEPTH = 100  # llguidance's parser takes 128 levels, its own wrapping included
MAX_TEXT_BYTES = 16_384  # of a regex or a Lark grammar: its own author decides how costly
MAX_TOOLS_BYTES = 131_072  # of the schemas of all functions of a request

# One space, or a line break and its indentation, wherever JSON allows white space: without
# a bound, small models fill their answers with it.
_WHITESPACE = r" |\n {0,20}"
_SCHEMA_PARAM = "response_format.json_schema.schema"
_FREE = ResponseFormat(type="text")
_BRACE = ord("{")  # a byte's token is its number
# RFC 3339 has a year 0, which languages do not, and as many digits of a second as small models
# care to write.
_YEAR = "(?:[1-9]|0[1-9]|00[1-9]|000[1-9])"
_SECONDS = r"[^.]*(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9:]{5})"
_DATES = {
    "date": f"^{_YEAR}",
    "time": f"^{_SECONDS}$",
    "date-time": f"^{_YEAR}{_SECONDS}$",
}
_VALUES = ("const", "enum", "default", "examples")  # of a schema: what is no schema itself
_NO_PARAMETERS: dict[str, Any] = {"properties": {}, "additionalProperties": False}


def form_of(body: GenerationBody) -> tuple[str, Any] | None:
    """The parameter by which ``body`` asks for a form of its answer, and its value.

    Raises:
        InvalidRequest: there are two.
    """
    asked = {name: getattr(body, name, None) for name in _BUILDERS}
    asked = {name: value for name, value in asked.items() if value not in (None, _FREE)}
    if len(asked) > 1:
        first, second, *_ = asked
        raise InvalidRequest(
            f"Set {first} or {second}, not both",
            param=second,
            code="invalid_parameter_combination",
        )
    return next(iter(asked.items()), None)


async def grammar_of(form: tuple[str, Any] | None, tools: ToolUse | None = None) -> str | None:
    """The grammar of an answer of that ``form`` that may call ``tools``, None if it is free.

    Raises:
        InvalidRequest: it cannot be followed.
    """
    grammar = None
    if form is not None:
        name, value = form
        grammar = _BUILDERS[name](value)
        await check_grammar(grammar, _SCHEMA_PARAM if name == "response_format" else name)
    if tools is not None and (tools.is_enforced or grammar is not None):
        grammar = tool_grammar(tools, grammar)
        await check_grammar(grammar, "tools")
    return grammar


async def check_grammar(grammar: str, param: str) -> None:
    """Compile ``grammar`` in a thread, for a vocabulary of single bytes.

    Raises:
        InvalidRequest: naming ``param``, with the reason.
    """
    try:
        await asyncio.wrap_future(_thread().submit(_try_grammar, grammar))
    except GrammarError as error:
        raise _refusal(param, str(error)) from error


def json_grammar(schema: Mapping[str, Any], param: str, *, strict: bool = True) -> str:
    """The grammar of the JSON texts that are valid under ``schema``.

    Without ``strict``, keywords that cannot be enforced are left out of account.

    Raises:
        InvalidRequest: naming ``param``; the schema is too large or too deep.
    """
    return json.dumps({"grammars": [_json_part(schema, param, strict)]})


def regex_grammar(regex: str) -> str:
    r"""The grammar of the texts that ``regex`` (Rust's syntax) matches as a whole.

    \d is an ASCII digit. Raises InvalidRequest when it is too large.
    """
    _check_text_size(regex, "guided_regex")
    quoted = regex_to_lark(regex, "d").replace("\n", r"\n")
    return _lark(f"start: /{quoted}/")


def choice_grammar(choices: list[str]) -> str:
    """The grammar of exactly these texts. Raises InvalidRequest when they are too large."""
    _check_text_size("".join(choices), "guided_choice")
    return _lark("start: " + " | ".join(map(json.dumps, choices)))


def lark_grammar(lark: str) -> str:
    """The grammar that ``lark`` writes out, in llguidance's variant of Lark's syntax.

    Raises InvalidRequest when it is too large.
    """
    _check_text_size(lark, "guided_grammar")
    return _lark(lark)


def tool_grammar(tools: ToolUse, answer: str | None = None) -> str:
    """The grammar of an answer that calls ``tools``, or that is free not to.

    What is no call follows the grammar ``answer``, or is any text. Check the result with
    ``check_grammar(grammar, "tools")``.

    Raises:
        InvalidRequest: a function's parameters are no object, too large or too deep.
    """
    begin, end = json.dumps(tools.syntax.begin), json.dumps(tools.syntax.end)
    heads, parts = [], []
    for i, function in tools.functions.items():
        name = json.dumps(function.name)
        head, tail = json.dumps(f'{{"name": {name}, "arguments": '), json.dumps("}")
        heads.append(f"{head} @arguments_{i} {tail}")
        param = f"tools[{i}].function.parameters"
        schema = {"type": "object", **(function.parameters or _NO_PARAMETERS)}
        if schema["type"] != "object":
            raise _refusal(param, 'its type must be "object"')
        part = _json_part(schema, param, bool(function.strict))
        parts.append({"name": f"arguments_{i}", **part})
    rest = rf"/\n?/ ({' | '.join(heads)}) /\n?/ {end}"
    calls = r"call (/\n?/ call)*" if tools.is_parallel else "call"
    if tools.must_call:
        lark = f"start: {calls}\ncall: {begin} {rest}"
    elif answer is not None:
        lark = f"start: {calls} | @answer\ncall: {begin} {rest}"
        parts += [{"name": "answer", **part} for part in json.loads(answer)["grammars"]]
    else:
        # A lazy lexeme takes text up to the first beginning of a call.
        start = "call* TEXT" if tools.is_parallel else "TEXT | call"
        lark = "\n".join(
            [
                f"start: {start}",
                f"call: text_and_begin {rest}",
                f"text_and_begin[lazy]: TEXT {begin}",
                r"TEXT: /(.|\n)*/",
            ]
        )
    grammar = json.dumps({"grammars": [{"lark_grammar": lark}, *parts]})
    if len(grammar) > MAX_TOOLS_BYTES:
        raise _too_large("tools", len(grammar), MAX_TOOLS_BYTES)
    return grammar


def _response_format_grammar(form: ResponseFormat) -> str:
    if form.json_schema is None:
        return json_grammar({"type": "object"}, "response_format")
    return json_grammar(
        form.json_schema.schema_, _SCHEMA_PARAM, strict=bool(form.json_schema.strict)
    )


_BUILDERS: dict[str, Callable[[Any], str]] = {
    "response_format": _response_format_grammar,
    "guided_json": lambda schema: json_grammar(schema, "guided_json"),
    "guided_regex": regex_grammar,
    "guided_choice": choice_grammar,
    "guided_grammar": lark_grammar,
}


def _lark(text: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": text}]})


def _json_part(schema: Mapping[str, Any], param: str, strict: bool) -> dict[str, Any]:
    """``schema`` as one of llguidance's grammars; options that it brings itself are dropped."""
    _check_schema(schema, param, strict)
    options = {"whitespace_pattern": _WHITESPACE, "lenient": not strict}
    return {"json_schema": {**_with_usual_dates(schema), "x-guidance": options}}


def _with_usual_dates(node: Any) -> Any:
    """The schema ``node``, its dates and times bounded by ``_DATES``."""
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
    """Bounds, and what llguidance takes but does not keep to the letter."""
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        for node in level:
            if strict and isinstance(node, Mapping):
                _check_min_properties(node, param)
        level = [child for node in level for child in _children(node)]
        if not level:
            break
    else:
        raise _refusal(param, f"it is nested more than {MAX_SCHEMA_DEPTH} levels deep")
    size = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_SCHEMA_BYTES:
        raise _too_large(param, size, MAX_SCHEMA_BYTES)


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, Mapping):
        return node.values()
    return node if isinstance(node, list) else ()


def _check_min_properties(schema: Mapping[str, Any], param: str) -> None:
    # A key may be written twice where its name is free: two pairs are not two properties.
    least, required = schema.get("minProperties"), schema.get("required")
    num_required = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, num_required):
        raise _refusal(
            param,
            f"minProperties can be at most 1 or the number of required properties, got {least}",
        )


def _check_text_size(text: str, param: str) -> None:
    if (size := len(text.encode())) > MAX_TEXT_BYTES:
        raise _too_large(param, size, MAX_TEXT_BYTES)


def _too_large(param: str, size: int, limit: int) -> InvalidRequest:
    return _refusal(param, f"it has {size} bytes, at most {limit} are accepted")


def _refusal(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{param}': {reason}.", param=param, code="invalid_grammar")


def _try_grammar(grammar: str) -> None:
    matcher = compile_grammar(_byte_tokenizer(), grammar)
    # An object of too many properties shows behind its brace only.
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
    """A vocabulary of the 256 bytes and an end token, as llguidance asks for it."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([i]) for i in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
