"""The KV caches of requests, offered to later requests as prefixes."""

import functools
from collections.abc import Callable

from mlxnode.engine.decode.batch import Batch
from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.kvcache.entries import PrefixEntry, RunningEntry
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.kvcache.prompt_cache import PromptCache, is_trimmable, trimmed


class PrefixReuse:
    """Hands the KV caches of the requests of one batch to the prefix cache."""

    def __init__(self, prefixes: PrefixCache, batch: Batch, row_bytes: Callable[[int], int]):
        """``row_bytes`` gives the bytes of a row's first tokens."""
        self._prefixes = prefixes
        self._row_bytes = row_bytes
        self._batch = batch

    def offer(self, request: Request) -> None:
        """Offer the complete prompt of ``request`` as a prefix while the request runs."""
        prompt, logits = request.prompt, request.logits
        if is_trimmable(request.own_cache):
            running = RunningEntry(prompt, functools.partial(self._copy, request))
            running.remember(len(prompt), logits)
            self._prefixes.add_running(running)
            request.prefix_entry = running
        else:  # the batch could not copy the prompt later
            entry = PrefixEntry(prompt)
            entry.remember(len(prompt), logits)
            self._prefixes.add(prompt, request.own_cache, entry)
            request.prefix_entry = entry

    def keep(self, request: Request) -> None:
        """Keep prompt and answer of a request that ends, if the prefix cache is enabled."""
        entry = request.prefix_entry
        if entry is None:
            raise RuntimeError("the prompt was not offered")
        if self._prefixes.is_enabled and not request.has_bad_logits:
            tokens = [*request.prompt, *request.tokens][: self._num_cached(request)]
            # Before the copy: the memory for both must be there.
            if self._prefixes.make_room(self._row_bytes(len(tokens))):
                cache = self._try_copy(request, len(tokens))
                if cache is not None:
                    self._prefixes.add(tokens, cache, entry)
                self._prefixes.settle()
        self._prefixes.remove_running(entry)

    def _num_cached(self, request: Request) -> int:
        """Tokens in the KV cache of a request. It may have one more token than was read."""
        if request.stage is Stage.RUNNING:
            return self._batch.length_of(request)
        return len(request.prompt)

    def _try_copy(self, request: Request, length: int) -> PromptCache | None:
        """A copy of the KV cache of the first tokens; None if a layer does not allow it."""
        if request.stage is Stage.RUNNING:
            # The batch may have run on a token that was not read: a state would have it.
            row = self._batch.extract(request, length)
            return row if is_trimmable(row) else None
        cache = request.own_cache
        return trimmed(cache, length, copy=True) if is_trimmable(cache) else None

    def _copy(self, request: Request, length: int) -> PromptCache:
        """A copy of the KV cache of the first tokens of a request with a trimmable cache."""
        if (cache := self._try_copy(request, length)) is None:
            raise RuntimeError("the KV cache is not trimmable")
        return cache
