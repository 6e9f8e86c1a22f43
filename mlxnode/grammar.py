"""Compiles grammars with llguidance, for the workers and for the engine.

A grammar has llguidance's JSON form: a list of named Lark grammars and JSON schemas. The
first one is the start
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md).
"""

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from mlxnode.fair_threads import FairThreads

# With the default of 50,000, one mask of an ambiguous grammar takes a second.
_LIMITS = LLParserLimits(step_max_items=10_000, verbose_errors=False)
# Compiling recurses once for each link in a chain of rules or references. The largest grammars
# that workers accept need 16 to 32 MB; the usual stack of 8 MB would end the process.
_STACK_BYTES = 128 * 2**20
SMALL = 4096  # bytes of a grammar that never waits for larger ones


class GrammarError(ValueError):
    """A grammar that cannot be compiled or followed; the message is the reason in one line."""


def is_marker(text: str, is_special: bool) -> bool:
    """True if an added token is no text to a grammar, which can only name it by its id.

    llguidance has the same rule for tokenizers that it loads itself.
    """
    return is_special or (text.startswith("<") and text.endswith(">"))


def compile_threads() -> FairThreads:
    """Threads whose stacks are large enough to compile."""
    return FairThreads("grammar", 2, small=SMALL, stack_bytes=_STACK_BYTES)


def compile_grammar(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """A grammar matcher at the start of ``grammar``. Call this in ``compile_threads``.

    Raises:
        GrammarError: the grammar is malformed, unsatisfiable or too complex.
    """
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
    try_mask(matcher)
    return matcher


def try_mask(matcher: LLMatcher) -> None:
    """Compute the next mask, because some limits apply only to masks.

    Raises:
        GrammarError: the mask cannot be computed, now or after an earlier error.
    """
    matcher.compute_bitmask()
    if matcher.is_error():
        raise GrammarError(describe_error(matcher))


def describe_error(matcher: LLMatcher) -> str:
    """llguidance's error in one line, with the reason if there is one."""
    lines = [line.strip() for line in matcher.get_error().splitlines()]
    reasons = [line[7:] for line in lines if line.startswith("error: ")]  # of a regex
    return " ".join(_shorten(line) for line in lines[:1] + reasons[:1])


def _shorten(line: str) -> str:
    """The start and the end of a line that may quote a whole regex."""
    return line if len(line) <= 200 else f"{line[:100]} ... {line[-100:]}"
