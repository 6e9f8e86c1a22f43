"""Compiles grammars with llguidance, in the same way in the workers and in the engine.

A grammar travels as llguidance's own JSON form: a list of named Lark grammars and JSON
schemas, the first of which is the whole
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md).
"""

import threading
from concurrent.futures import ThreadPoolExecutor

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

# Compiling recurses once for every rule or reference in a chain: a grammar of the largest
# size that is accepted would overflow the usual stack of 8 MB, and end the process.
_STACK_BYTES = 128 * 2**20
# The default, 50,000, lets an ambiguous grammar take a second for one mask.
_LIMITS = LLParserLimits(step_max_items=10_000, verbose_errors=False)
_MAX_ERROR_CHARACTERS = 300


class GrammarError(ValueError):
    """A grammar that cannot be compiled or followed; the message says why, in one line."""


def compile_grammar(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """A matcher at the start of ``grammar``. Call it in a ``compile_thread``.

    Raises:
        GrammarError: the grammar is malformed, unsatisfiable or too complex.
    """
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()  # some limits are met with the first mask only
    if matcher.is_error():
        raise GrammarError(describe_error(matcher))
    return matcher


def describe_error(matcher: LLMatcher) -> str:
    """llguidance's error in one line, without dumps of its state."""
    line = " ".join(matcher.get_error().partition("\n<")[0].split())
    if len(line) > _MAX_ERROR_CHARACTERS:
        half = _MAX_ERROR_CHARACTERS // 2
        line = f"{line[:half]} ... {line[-half:]}"
    return line


def compile_thread(name: str) -> ThreadPoolExecutor:
    """An executor of one thread, with a stack that is deep enough for ``compile_grammar``."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    before = threading.stack_size(_STACK_BYTES)
    try:
        executor.submit(lambda: None).result()  # threads are started by work
    finally:
        threading.stack_size(before)
    return executor
