"""The runner over a real store: each line has one result, however a batch ends."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

import pytest

from mlxnode.batches import runner as runner_module
from mlxnode.batches.files import Kept
from mlxnode.batches.job import Limits
from mlxnode.batches.reading import Request
from mlxnode.batches.rows import HasEnded, Result, StoredBatch
from mlxnode.batches.runner import Runner
from mlxnode.batches.sending import Outcome, Tokens
from mlxnode.batches.store import BatchStore

URL = "/v1/completions"


class Server:
    """Stands for the workers: answers each line once ``gate`` is open."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[tuple[str, str]] = []  # (key, custom id)
        self.num_running = self.most_running = 0
        self.on_ask: Callable[[str], Awaitable[None]] | None = None

    async def answer(self, request: Request, endpoint: str, key: str) -> Outcome:
        assert endpoint == URL
        self.asked.append((key, request.custom_id))
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            if self.on_ask is not None:
                await self.on_ask(request.custom_id)
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.num_running -= 1
        has_failed = "bad" in request.custom_id
        data = json.dumps({"custom_id": request.custom_id, "error": None}).encode()
        return Outcome(data, has_failed, Tokens(2, 1, 3, 0))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path):
    clock = Clock()
    store = BatchStore(tmp_path / "batches", clock=clock)
    store.test_clock = clock
    yield store
    store.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch, store):
    monkeypatch.setattr(runner_module, "LOOK_INTERVAL", 0.02)
    monkeypatch.setattr(runner_module.time, "time", store.test_clock)


def add(store: BatchStore, ids: list[str], owner: str = "k", **changes: object) -> str:
    """The id of a new batch with a line for each of ``ids``."""
    upload = store.files.begin(owner)
    for custom_id in ids:
        line = {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"model": "m"}}
        upload.write(json.dumps(line | changes).encode() + b"\n")
    store.files.keep([Kept(upload, "in.jsonl", "batch", None)])
    batch = store.create(
        owner,
        endpoint=URL,
        input_file_id=upload.id,
        completion_window="1m",
        seconds=60,
    )
    assert batch is not None
    return batch.id


@contextlib.asynccontextmanager
async def running(store: BatchStore, server: Server, most: int = 4, on_busy=lambda busy: None):
    runner = Runner(store, server, Limits(100, 10_000), most, on_busy)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def wait_for(is_there: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not is_there():
            await asyncio.sleep(0.01)


async def ended(store: BatchStore, id: str) -> StoredBatch:
    await wait_for(lambda: not find(store, id).is_open)
    return find(store, id)


def find(store: BatchStore, id: str) -> StoredBatch:
    batch = store.find(id)
    assert batch is not None
    return batch


def lines_of(store: BatchStore, file_id: str | None) -> list[dict]:
    if file_id is None:
        return []
    return [json.loads(line) for line in store.files.path(file_id).read_text().splitlines()]


def ids_of(store: BatchStore, file_id: str | None) -> list[str]:
    return [line["custom_id"] for line in lines_of(store, file_id)]


async def test_runner_answers_each_line_once_in_the_order_of_the_file(store):
    names = [f"r{i}" for i in range(20)] + ["bad"]
    id, server = add(store, names), Server()
    async with running(store, server):
        batch = await ended(store, id)
    assert (batch.status, batch.total) == ("completed", 21)
    assert (batch.completed, batch.failed) == (20, 1)
    assert (batch.input_tokens, batch.output_tokens, batch.model) == (42, 63, "m")
    assert ids_of(store, batch.output_file_id) == names[:-1]
    assert ids_of(store, batch.error_file_id) == ["bad"]
    assert server.most_running == 4


async def test_runner_fails_a_batch_whose_file_is_wrong(store):
    id, server = add(store, ["a", "a"], url="/v1/other"), Server()
    async with running(store, server):
        batch = await ended(store, id)
    assert batch.status == "failed" and not server.asked
    assert [(one.line, one.param) for one in batch.errors] == [
        (1, "url"),
        (2, "url"),
    ]


async def test_runner_cancels_lines_in_flight_and_keeps_what_is_done(store):
    id, server = add(store, [f"r{i}" for i in range(9)]), Server()

    async def hold_later_lines(custom_id: str) -> None:
        if custom_id != "r0":
            await asyncio.Event().wait()

    server.on_ask = hold_later_lines
    async with running(store, server) as runner:
        await wait_for(lambda: find(store, id).completed == 1)
        store.cancel("k", id)
        runner.wake()
        batch = await ended(store, id)
        assert server.num_running == 0
    assert (batch.status, batch.completed, batch.failed) == ("cancelled", 1, 8)
    assert ids_of(store, batch.output_file_id) == ["r0"]
    errors = lines_of(store, batch.error_file_id)
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert [line["custom_id"] for line in errors] == [f"r{i}" for i in range(1, 9)]


async def test_runner_ends_a_batch_whose_time_is_over(store):
    id, server = add(store, ["a", "b"]), Server()
    server.gate.clear()
    async with running(store, server):
        await wait_for(lambda: server.num_running == 2)
        store.test_clock.now += 61
        batch = await ended(store, id)
    assert (batch.status, batch.failed) == ("expired", 2)
    errors = lines_of(store, batch.error_file_id)
    assert [line["error"]["code"] for line in errors] == ["batch_expired"] * 2


async def test_runner_goes_on_after_an_end_at_any_time(store):
    names = [f"r{i}" for i in range(30)]
    id, asked = add(store, names), []
    for _ in range(4):
        server, stopped = Server(), asyncio.Event()

        async def stop_later(custom_id: str, server=server, stopped=stopped) -> None:
            if len(server.asked) > 6:
                stopped.set()
                await asyncio.Event().wait()

        server.on_ask = stop_later
        async with running(store, server, most=3):
            await wait_for(stopped.is_set)
        asked += server.asked
    server = Server()
    async with running(store, server):
        batch = await ended(store, id)
    assert (batch.status, batch.completed, batch.failed) == ("completed", 30, 0)
    assert ids_of(store, batch.output_file_id) == names
    assert len(asked) >= 4 * 7  # some lines were asked for again


async def test_runner_lets_keys_take_turns_and_has_one_batch_of_each(store):
    first = add(store, [f"a{i}" for i in range(60)], "a")
    second = add(store, [f"A{i}" for i in range(3)], "a")
    other = add(store, [f"b{i}" for i in range(6)], "b")
    server = Server()
    server.on_ask = lambda custom_id: asyncio.sleep(0.01)
    async with running(store, server, most=2):
        for id in (first, second, other):
            assert (await ended(store, id)).status == "completed"
    order = [custom_id for _, custom_id in server.asked]
    assert order.index("b5") < order.index("a59")  # the small batch of b did not wait for a's
    assert order.index("a59") < order.index("A0")


async def test_runner_waits_for_a_disk_that_fails(store, monkeypatch):
    monkeypatch.setattr("mlxnode.batches.writing.RETRY_PAUSE", 0.01)
    id, server = add(store, ["a", "b"]), Server()
    append, failures = store.append, [OSError(28, "No space left on device")] * 3

    def fail_first(*arguments):
        if failures:
            raise failures.pop()
        return append(*arguments)

    monkeypatch.setattr(store, "append", fail_first)
    async with running(store, server):
        batch = await ended(store, id)
    assert not failures and batch.completed == 2 and len(server.asked) == 2


async def test_runner_says_when_it_has_no_work(store, monkeypatch):
    monkeypatch.setattr(runner_module, "IDLE_SECONDS", 0.05)
    said: list[bool] = []
    async with running(store, Server(), on_busy=said.append) as runner:
        await wait_for(lambda: said == [False])
        id = add(store, ["a"])
        runner.wake()
        assert said == [False, True]
        assert (await ended(store, id)).status == "completed"
        await wait_for(lambda: said == [False, True, False])


async def test_runner_waits_for_a_file_that_is_gone(store):
    id, server = add(store, ["a"]), Server()
    server.gate.clear()
    async with running(store, server):
        await wait_for(lambda: server.num_running)
    store.files.path(find(store, id).input_file_id).unlink()
    async with running(store, Server()):
        await asyncio.sleep(0)
        store.test_clock.now += 61
        assert (await ended(store, id)).status == "expired"


async def test_runner_ends_an_expired_batch_as_expired_though_an_end_was_cut_off(
    store, monkeypatch
):
    id, server = add(store, ["a", "b"]), Server()
    server.gate.clear()
    finish, cut = store.finish, asyncio.Event()

    def never_finish(*arguments):
        cut.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store, "finish", never_finish)
    async with running(store, server):
        await wait_for(lambda: server.num_running == 2)
        store.test_clock.now += 61
        await wait_for(cut.is_set)
    assert find(store, id).is_open and find(store, id).failed == 2
    with pytest.raises(HasEnded):
        store.cancel("k", id)
    monkeypatch.setattr(store, "finish", finish)
    store.test_clock.now -= 61  # and if the clock goes back, too
    async with running(store, server):
        assert (await ended(store, id)).status == "expired"


async def test_runner_ends_though_it_is_woken_at_that_moment(store):
    for _ in range(20):
        async with asyncio.timeout(20), running(store, Server()) as runner:
            await asyncio.sleep(0.01)
            runner.wake()


async def test_runner_completes_a_batch_whose_lines_are_all_answered_in_time(store):
    id = add(store, ["a", "b"])
    store.begin(id, total=2, model="m")
    store.append(id, [Result(line, b"{}", has_failed=False) for line in (1, 2)])
    store.test_clock.now += 61
    async with running(store, Server()):
        assert (await ended(store, id)).status == "completed"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermissionError(13, "Permission denied"), "validating"),
        (PermissionError(13, "Permission denied"), "in_progress"),
        (RuntimeError("a fault"), "validating"),
    ],
)
async def test_runner_goes_on_with_others_if_a_file_cannot_be_read(
    store, monkeypatch, error, status
):
    bad, good = add(store, ["a"]), add(store, ["b"])
    if status == "in_progress":
        store.begin(bad, total=1, model="m")
    read = Limits.read

    def read_or_fail(self, batch, store):
        if batch.id == bad:
            raise error
        return read(self, batch, store)

    monkeypatch.setattr(Limits, "read", read_or_fail)
    async with running(store, Server()) as runner:
        assert (await ended(store, good)).status == "completed"
        assert find(store, bad).status == status
        store.cancel("k", bad)
        monkeypatch.setattr(runner, "_try_again_at", {})
        assert (await ended(store, bad)).status == "cancelled"
