"""A simulated device: the bytes of every array that a runner would hold, and no array.

``SimulatedRunner`` follows ``TextRunner`` step by step with the real scheduler, budget and
prefix cache. Its KV caches are numbers: they grow, shrink, move and are copied as those of
``kvcache/batch.py`` and mlx-lm do. Each copy is counted while the original is there.
"""

import random
from collections.abc import Iterator

from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.decode.scheduler import Scheduler
from mlxnode.engine.kvcache.budget import CacheSizes, MemoryBudget
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.kvcache.slots import num_positions, num_slots
from mlxnode.engine.kvcache.snapshot import Elsewhere, Snapshot
from mlxnode.engine.work import RequestKey, Youngest
from mlxnode.messages.data import Generate, Sampling


class Device:
    """The bytes in use. It notes the largest sum, and by how much a limit was exceeded."""

    def __init__(self, limit: int, planned: int):
        self.limit, self.planned = limit, planned  # planned: all that is no KV cache
        self.unplanned = 0  # of other programs, say
        self.sizes: dict[object, int] = {}
        self.peak = 0

    @property
    def used(self) -> int:
        return self.planned + self.unplanned + sum(self.sizes.values())

    def set(self, owner: object, size: int, transient: int = 0) -> None:
        """``owner`` has ``size`` bytes now, and ``transient`` ones more until it has."""
        self.sizes[owner] = size
        self.peak = max(self.peak, self.used + transient)


class FakeLayer:
    """A layer of a cached prefix: its size."""

    state = None

    def __init__(self, nbytes: int):
        self.nbytes = nbytes


class FakeSnapshot(Snapshot):
    """A snapshot of layers that are only sizes."""

    def __init__(self, length: int, nbytes: int, *, is_border: bool = True):
        super().__init__([], length, is_border=is_border)
        self.shortest, self.nbytes, self.layers = length, nbytes, [FakeLayer(nbytes)]

    def restore(self, length: int) -> Iterator[FakeLayer]:
        yield from self.layers


class SimulatedRunner:
    """One model on a simulated device."""

    def __init__(
        self,
        device: Device,
        budget: MemoryBudget,
        sizes: CacheSizes,
        rows: int,
        prefixes: int,
        answer_step: int,
    ):
        self.device, self.sizes = device, sizes
        self.num_displaced = 0
        self.rows: list[Request] = []
        self.capacity = (0, 0)
        self.own: dict[Request, int] = {}  # positions of the caches outside of the batch
        self.lengths: dict[Request, int] = {}
        self.ended: list[RequestKey] = []
        self.aborted: set[RequestKey] = set()
        self.scheduler = Scheduler(
            rows, 1000, budget, sizes, held=lambda: self.capacity, answer_step=answer_step
        )
        self.prefixes = PrefixCache(lambda: prefixes, budget)
        self.requests: dict[RequestKey, Request] = {}

    # --- the protocol of a runner, as far as the guard needs it ---------------------

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    @property
    def youngest(self) -> Youngest | None:
        request = self.scheduler.youngest
        return None if request is None else Youngest(False, request.arrived_at, request.key)

    def pause(self, is_paused: bool) -> None:
        self.scheduler.is_paused = is_paused

    def drop_caches(self) -> None:
        self.prefixes.clear()
        self._settle_prefixes()

    def abort(self, key: RequestKey) -> None:
        request = self.requests.get(key)
        if request is None or request.is_aborted:
            return
        request.is_aborted = True
        self.aborted.add(key)
        if request.stage is not Stage.RUNNING:
            self._finish(request)

    def add(self, request: Request) -> bool:
        if self.scheduler.refusal(request) is not None:
            return False
        self.requests[request.key] = request
        self.scheduler.add(request)
        self.scheduler.admit()
        self._settle_prefixes()
        return True

    # --- the step -------------------------------------------------------------------

    def step(self, chunk: int) -> None:
        if self.scheduler.must_displace():
            while displaced := self.scheduler.displace():
                self._set_aside(displaced)
        self._settle_prefixes()
        while (request := self.scheduler.next_prefill()) is not None and chunk > 0:
            if request.stage is Stage.ADMITTED:
                found = self.prefixes.find(request.context)
                request.num_prefilled = 0 if found is None else found.length
                request.num_reused = request.num_prefilled
                self._own(request, request.num_prefilled)
                self.scheduler.start_prefill(request)
            count = min(chunk, request.num_to_prefill)
            request.num_prefilled += count
            self._own(request, request.num_prefilled)
            chunk -= max(count, 1)
            if request.num_to_prefill == 0:
                self.scheduler.finish_prefill(request)
        self.scheduler.admit()
        self._leave([r for r in self.rows if r.needs_no_step])
        self._join(self.scheduler.prefilled)
        self._resize(len(self.rows), self._longest + 1)
        for request in self.rows:
            self.lengths[request] += 1
            self._sample(request)
        self._settle_prefixes()

    @property
    def _longest(self) -> int:
        return max((self.lengths[request] for request in self.rows), default=0)

    def _own(self, request: Request, length: int) -> None:
        """mlx-lm grows such a cache in steps, all layers in one pass."""
        before = self.own.get(request, 0)
        if length > before or not before:
            self.own[request] = before + -(-max(length - before, 1) // 256) * 256
            self.device.set(request, self._row(self.own[request]), self._row(before))

    def _row(self, positions: int) -> int:
        return self.sizes.row(positions)

    def _join(self, requests: list[Request]) -> None:
        if not requests:
            return
        for request in requests:
            self.lengths[request] = len(request.context)
        rows = [*self.rows, *requests]
        self._resize(len(rows), max(self.lengths[request] for request in rows))
        for request in requests:
            self._sample(request)
            self.scheduler.start(request)
            self.device.set(request, 0)
            del self.own[request]
        self.rows = rows

    def _leave(self, requests: list[Request]) -> None:
        if not requests:
            return
        for request in requests:
            self._keep(request)
            self._finish(request)
        self._drop_rows(requests)

    def _drop_rows(self, requests: list[Request]) -> None:
        kept = [request for request in self.rows if request not in requests]
        if kept and self.rows[-1] in kept:
            self._resize(0, 0, transient=self._row(self._longest))  # a row moves
        self.rows = kept
        slots, positions = self.capacity
        if not kept:
            self.capacity = (0, 0)
            self.device.set("batch", 0)
        else:
            if 2 * num_slots(len(kept)) <= slots:
                slots = num_slots(len(kept))
            if 2 * num_positions(self._longest) <= positions:
                positions = num_positions(self._longest)
            self._set_capacity(slots, positions)
        self.scheduler.settle()

    def _set_aside(self, displaced: list[Request]) -> None:
        self.num_displaced += len(displaced)
        leaving = [request for request in displaced if request.stage is Stage.RUNNING]
        for request in displaced:
            request.set_aside()
            if request in leaving:
                self._keep(request)
            else:
                self.own.pop(request, None)
                self.device.set(request, 0)
        if leaving:
            self._drop_rows(leaving)

    def _sample(self, request: Request) -> None:
        request.num_sampled += 1
        request.tokens.append(-1)

    def _keep(self, request: Request) -> None:
        length = self.lengths[request]
        tokens = [*request.prompt, *[-1] * (length - len(request.prompt))]
        layers = len(self.sizes.layers)
        layer = self._row(length) // layers  # one of them cannot be cut
        plain = layer * (layers - 1)
        if self.prefixes.is_enabled and self.prefixes.make_room(plain, layer):
            self._settle_prefixes()
            cache = [*(FakeLayer(layer) for _ in range(layers - 1)), Elsewhere()]
            self.device.set("copy", self._row(length))
            self.prefixes.add(tokens, cache, end=FakeSnapshot(length, layer))
            self.prefixes.settle()
            self.device.set("copy", 0)
            self._settle_prefixes()

    def _finish(self, request: Request) -> None:
        self.scheduler.finish(request)
        self.own.pop(request, None)
        self.device.set(request, 0)
        self.ended.append(request.key)
        del self.requests[request.key]

    def _resize(self, rows: int, length: int, transient: int = 0) -> None:
        """Grow the arrays of the batch layer by layer, if they are too small."""
        slots = max(self.capacity[0], num_slots(rows))
        positions = max(self.capacity[1], num_positions(length) if rows else 0)
        self._set_capacity(slots, positions, transient)

    def _set_capacity(self, slots: int, positions: int, transient: int = 0) -> None:
        before = self.device.sizes.get("batch", 0)
        size = slots * self._row(positions) if slots else 0
        if size != before:
            # Of one layer, beside the new one.
            old = max(self.sizes.copy(1, 0, (1, self.capacity[1])), 1) * self.capacity[0]
            self.device.set("batch", max(size, before), old)
        self.capacity = (slots, positions)
        self.device.set("batch", size, transient)

    def _settle_prefixes(self) -> None:
        self.device.set("prefixes", self.prefixes.nbytes)


def random_request(random: random.Random, uid: int, now: float, shared: list[int]) -> Request:
    """A request of random lengths; some share the beginning of their prompt."""
    prompt = [uid] * random.choice([1, 5, 40, 300, random.randint(1, 1500)])
    if random.random() < 0.4:
        prompt = shared[: random.randint(1, len(shared))] + prompt
    message = Generate(
        uid=uid,
        model="m",
        prompt=prompt,
        max_tokens=random.choice([1, 3, 20, random.randint(1, 400)]),
        stop_ids=[],
        sampling=Sampling(),
        key=random.choice("aaab"),
        weight=random.choice([1.0, 1.0, 3.0]),
        priority=random.choice([0, 0, 0, 1]),
        call=random.choice([0, 1, 2]),
    )
    request = Request.of(RequestKey(1, uid), message, random_seed=0)
    request.arrived_at = now
    return request
