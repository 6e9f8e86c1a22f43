"""Constrained decoding: the tokens that a grammar allows next, as bit masks.

Imports no mlx: the CPU computes masks while the device runs the forward pass.
"""

import functools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask_par

from mlxnode.engine.decode.vocabulary import load_vocabulary
from mlxnode.errors import RustPanic, panics_caught
from mlxnode.grammar import GrammarError, compile_grammar, compile_threads, describe_error

_ALL = 0xFFFFFFFF
_MAX_CACHED = 32  # compiled grammars; clients repeat a few


def mask_words(vocabulary_size: int) -> int:
    """The number of 32-bit words in a mask."""
    return -(-vocabulary_size // 32)


def fill_masks(states: Sequence["GrammarState | None"], masks: np.ndarray) -> None:
    """Write the mask of the next token of each row, several rows in parallel.

    Shapes:
        states: B rows; None for a row without a grammar, which allows every token.
        masks: [B, W] uint32, contiguous; token i is allowed when bit i % 32 of word i // 32
            is set, counted from the least significant.
    """
    constrained = []
    for i, state in enumerate(states):
        if state is None:
            masks[i] = _ALL
        else:
            constrained.append((state.matcher, i))
    if constrained:
        fill_next_token_bitmask_par(_executor(), constrained, masks.view(np.int32))


def remove_tokens(mask: np.ndarray, tokens: Iterable[int]) -> None:
    """Clear the bits of ``tokens`` in ``mask``, [W] uint32; ids past its end are none."""
    for token in tokens:
        if token // 32 < len(mask):
            mask[token // 32] &= np.uint32(_ALL ^ (1 << token % 32))


@functools.cache
def _executor() -> LLExecutor:
    return LLExecutor()


class GrammarState:
    """The position of one sequence in its grammar.

    An ``error`` is permanent: the grammar is too complex, or it does not allow an accepted
    token. The masks then allow stop tokens only.
    """

    def __init__(self, matcher: LLMatcher):
        self.matcher = matcher

    @property
    def is_finished(self) -> bool:
        """True if the text is complete: only a stop token is allowed next."""
        return self.matcher.is_stopped() and not self.matcher.is_error()

    @property
    def may_end(self) -> bool:
        """True if the text so far is complete, or a stop token has ended a complete text."""
        return not self.matcher.is_error() and (
            self.matcher.is_stopped() or self.matcher.is_accepting()
        )

    @property
    def error(self) -> str | None:
        return describe_error(self.matcher) if self.matcher.is_error() else None

    def accept(self, token: int) -> None:
        """Advance by a sampled token. A stop token may be left out."""
        self.matcher.consume_token(token)


class GrammarCompiler:
    """Compiles grammars for one model. Loads the tokenizer with the first grammar."""

    def __init__(self, folder: Path, vocabulary_size: int, stop_ids: Iterable[int]):
        """``folder`` has tokenizer.json; ``vocabulary_size`` counts the logits, with padding.

        ``stop_ids`` are the end-of-sequence ids of the model. A mask allows them where the text
        may end.
        """
        self._file = folder / "tokenizer.json"
        self._vocabulary_size = vocabulary_size
        self._stop_ids = sorted(stop_ids)
        self._threads = compile_threads()
        self._loading = threading.Lock()  # held while the tokenizer is loaded
        self._tokenizer: LLTokenizer | None = None
        self._lock = threading.Lock()  # for what is below
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def submit(self, grammar: str, client: str = "") -> Future[GrammarState]:
        """Compile in a thread. The future raises the same errors as ``start``.

        The grammars of one ``client`` do not stand before those of others.
        """
        with self._lock:
            is_known = grammar in self._compiled
        size = 0 if is_known else len(grammar)
        return self._threads.submit(
            functools.partial(self._start, grammar), size=size, client=client
        )

    def start(self, grammar: str) -> GrammarState:
        """The state at the start of ``grammar``.

        Raises:
            GrammarError: the grammar is malformed or too complex, or llguidance does not know
                the kind of the model's tokenizer.
        """
        return self.submit(grammar).result()

    def close(self) -> None:
        """End the compile threads and cancel the grammars that wait for them."""
        self._threads.close()

    def _start(self, grammar: str) -> GrammarState:
        with self._lock:
            matcher = self._compiled.pop(grammar, None)
        if matcher is None:
            try:
                with panics_caught():
                    matcher = compile_grammar(self._load_tokenizer(), grammar)
            except RustPanic as error:
                raise GrammarError(f"the grammar cannot be compiled: {error}") from error
        with self._lock:
            self._compiled[grammar] = matcher
            if len(self._compiled) > _MAX_CACHED:
                self._compiled.popitem(last=False)
            return GrammarState(matcher.deep_copy())

    def _load_tokenizer(self) -> LLTokenizer:
        with self._loading:
            if self._tokenizer is None:
                try:
                    self._tokenizer = load_vocabulary(
                        self._file, self._vocabulary_size, self._stop_ids
                    )
                except (OSError, ValueError) as error:
                    reason = f"this model's answers cannot be constrained: {error}"
                    raise GrammarError(reason) from error
            return self._tokenizer
