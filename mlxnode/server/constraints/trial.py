"""Trial compilation: whether llguidance takes a grammar or a schema, for single-byte tokens."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from llguidance import LLTokenizer, TokenizerWrapper

from mlxnode.grammar import SMALL, GrammarError, compile_grammar, compile_threads, try_mask

_Result = TypeVar("_Result")

_threads = compile_threads()
_NUM_TOKENS = 2**19  # more than any model has


async def in_thread(call: Callable[[], _Result], size: int = SMALL) -> _Result:
    """The result of ``call``, in a thread whose stack is large enough to compile.

    ``size``: of the grammar, in bytes.
    """
    return await _threads.run(call, size=size)


@functools.lru_cache(maxsize=64)  # clients send the same few; an error is not kept
def try_grammar(grammar: str, start: bytes = b"{") -> None:
    """Compile ``grammar`` and the masks at the start and after ``start``, if that may follow.

    Too many properties of an object, for example, are an error only after its brace.

    Raises:
        GrammarError: the grammar cannot be compiled or followed.
    """
    matcher = compile_grammar(_byte_tokenizer(), grammar)
    tokens = list(start)  # the token of a byte is the byte's number
    if matcher.validate_tokens(tokens) == len(tokens):
        for token in tokens:
            matcher.consume_token(token)
    try_mask(matcher)


def problem_of(schema: Mapping[str, Any]) -> str | None:
    """Why llguidance cannot enforce the schema of a string or a number; None if it can.

    A schema that nothing satisfies has no problem of this kind.
    """
    return _problem_of(json.dumps({"grammars": [{"json_schema": schema}]}))


@functools.lru_cache(maxsize=512)
def _problem_of(grammar: str) -> str | None:
    try:
        try_grammar(grammar, b'"')
    except GrammarError as error:
        text = str(error)
        return None if text.startswith("Unsatisfiable") else text
    return None


@functools.cache
def _byte_tokenizer() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()), slices=[])


class _Bytes:
    """A vocabulary of the 256 bytes and an end token, in the form that llguidance takes.

    The ids after them, which a grammar may name as a model's markers, are tokens without text.
    """

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([i]) for i in range(256)), b"<end>", *[b""] * (_NUM_TOKENS - 257))
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
