"""The KV caches of requests: they start from cached prefixes, and become prefixes in turn."""

import functools
from collections.abc import Callable, Iterable

from mlxnode.engine.decode.batch import Batch
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.snapshot_plan import forks_of, plan
from mlxnode.engine.kvcache.budget import CacheSizes
from mlxnode.engine.kvcache.entries import RunningEntry
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.kvcache.prompt_cache import PromptCache, is_trimmable, trimmed
from mlxnode.engine.kvcache.snapshot import only_plain, take_snapshot, uncut_length


class PrefixReuse:
    """Connects the requests of one batch with the prefix cache."""

    def __init__(
        self,
        prefixes: PrefixCache,
        batch: Batch,
        sizes: CacheSizes,
        new_cache: Callable[[], PromptCache],
    ):
        self._prefixes = prefixes
        self._batch = batch
        self._sizes = sizes
        self._new_cache = new_cache

    def start(self, request: Request, others: Iterable[Request] = ()) -> None:
        """Load the longest cached prefix of the context; it may be all of it.

        ``others`` will be processed after it; they may share a part of its prompt.
        """
        # Scores need the logits of every position.
        cached = None if request.scores is not None else self._prefixes.find(request.context)
        forks = []
        if cached is None:
            request.cache = self._new_cache()
        else:
            request.cache, request.num_prefilled, request.logits = cached[:3]
            request.num_reused = request.num_prefilled
            if not request.is_resumed:
                request.num_cached = request.num_reused
            forks.append(cached.num_common)
        entry = RunningEntry(
            request.context,
            functools.partial(self._copy, request),
            is_trimmable=is_trimmable(request.cache),
            is_complete=False,
        )
        request.prefix_entry = entry
        self._prefixes.add_running(entry, () if cached is None else cached.snapshots)
        if not entry.is_trimmable and self._prefixes.takes_snapshots:
            forks += forks_of(request.context, (other.context for other in others))
            whole = uncut_length(request.cache)
            length = len(request.context)
            request.stops = plan(request.num_prefilled, length, request.borders, forks, whole)

    def reach(self, request: Request) -> None:
        """Take a snapshot if the processed part of the prompt ends at one of the stops."""
        if request.stops and request.stops[0].length == request.num_prefilled:
            self._take_snapshot(request, is_border=request.stops.pop(0).is_border)

    def offer(self, request: Request) -> None:
        """Offer the complete prompt of ``request`` as a prefix while the request runs."""
        entry = _entry_of(request)
        self._take_snapshot(request, is_border=True)
        entry.remember(len(request.context), request.logits)
        entry.is_complete = True

    def keep_row(self, request: Request) -> None:
        """Keep prompt and answer of a row that ends, if the prefix cache is enabled.

        The batch may have run on one more token than was read. States after such a token are
        of no use.
        """
        entry = _entry_of(request)
        length = len(request.prompt) + request.num_sampled - 1  # the last one is not run on yet
        tokens = [*request.prompt, *request.tokens][:length]
        if self._prefixes.is_enabled and not request.has_bad_logits:
            # Before the copy: the memory for both must be there.
            row, snapshot = self._sizes.row(length), self._sizes.uncut(length)
            if not self._prefixes.make_room(row - snapshot, snapshot):
                return
            cache = self._batch.extract(
                request, length if not entry.is_trimmable else len(tokens)
            )
            end = None
            if not entry.is_trimmable and len(tokens) == length:
                end = take_snapshot(cache, length, is_border=True)
            plain = trimmed(only_plain(cache), len(tokens))
            self._prefixes.add(tokens, plain, entry, end)
            self._prefixes.settle()

    def keep_prompt(self, request: Request) -> None:
        """Keep the processed part of a prompt, which no longer needs memory of its own."""
        entry, cache, length = _entry_of(request), request.own_cache, request.num_prefilled
        request.cache = None
        if length > request.num_cached and not request.has_bad_logits:
            if not entry.is_trimmable:
                self._prefixes.take_snapshot(entry, cache, length, is_border=True)
            self._prefixes.add(request.context[:length], only_plain(cache), entry)
            self._prefixes.settle()

    def close(self, request: Request) -> None:
        """The request has ended: offer its prompt no more."""
        if request.prefix_entry is not None:
            self._prefixes.remove_running(request.prefix_entry)
            request.prefix_entry = None

    def _take_snapshot(self, request: Request, *, is_border: bool) -> None:
        entry = _entry_of(request)
        if not entry.is_trimmable and self._prefixes.takes_snapshots:
            self._prefixes.take_snapshot(
                entry, request.own_cache, request.num_prefilled, is_border=is_border
            )

    def _copy(self, request: Request, length: int) -> PromptCache:
        """A copy of the layers that can be cut, of the first tokens of a request."""
        if request.cache is not None:
            return trimmed(only_plain(request.cache), length, copy=True)
        return trimmed(only_plain(self._batch.extract(request, length)), length)


def _entry_of(request: Request) -> RunningEntry:
    if request.prefix_entry is None:
        raise RuntimeError("the prompt was not started")
    return request.prefix_entry
