"""The process that renders: it is asked once a second at most, and may end at any time."""

import asyncio
import os
import pickle
import signal
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sanic.compat import Header
from support.node_process import is_running

from mlxnode.process.helper_process import HelperProcess
from mlxnode.server.errors import Unavailable
from mlxnode.server.metrics import scrapes
from mlxnode.server.metrics.metrics import Metrics
from mlxnode.server.metrics.rendering import Order
from mlxnode.server.metrics.scrapes import Scrapes
from mlxnode.server.routes.metrics import metrics

pytestmark = pytest.mark.slow
ORDER = Order(None, None, "text", is_compressed=False)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def rendered(monkeypatch):
    """The scrapes, their clock, and what the process was asked for."""
    asked: list[Order] = []

    class Counting(HelperProcess):
        def ask(self, *parts: bytes) -> bytes:
            asked.extend(map(pickle.loads, parts))
            return super().ask(*parts)

    monkeypatch.setattr(scrapes, "HelperProcess", Counting)
    clock = Clock()
    made = Scrapes(clock)
    yield made, clock, asked
    made._helper.stop()


async def test_scrapes_within_a_second_are_rendered_once(rendered):
    made, clock, asked = rendered
    first, second = await asyncio.gather(made.render(ORDER), made.render(ORDER))
    assert first == second and b"mlxnode_figures_up 0.0" in first
    clock.now += 0.9
    await made.render(ORDER)
    assert len(asked) == 1
    await made.render(ORDER._replace(is_compressed=True))
    clock.now += 0.2
    await made.render(ORDER)
    assert len(asked) == 3


async def test_a_process_that_was_killed_starts_again(rendered):
    made, clock, _ = rendered
    await made.render(ORDER)
    killed = made._helper.pid
    os.kill(killed, signal.SIGKILL)
    clock.now += 2
    assert b"mlxnode_figures_up" in await made.render(ORDER)
    assert made._helper.pid != killed


async def test_a_process_that_cannot_start_is_an_error_and_the_next_scrape_tries_again(
    rendered, monkeypatch
):
    made, _, _ = rendered

    def fail(module):
        raise OSError("no process left")

    with monkeypatch.context() as patch:
        patch.setattr("mlxnode.process.helper_process.start_helper", fail)
        with pytest.raises(OSError, match="no process left"):
            await made.render(ORDER)
    assert await made.render(ORDER)


def request_for(own: Metrics) -> Any:
    """A request of a worker whose supervisor tells nothing."""

    async def latest():
        raise Unavailable("no supervisor")

    context = SimpleNamespace(metrics=own, figures=SimpleNamespace(latest=latest), batches=None)
    app = SimpleNamespace(ctx=SimpleNamespace(worker_context=context))
    return SimpleNamespace(app=app, headers=Header())


async def test_a_process_that_hangs_is_a_503_and_the_next_scrape_starts_another(monkeypatch):
    own = Metrics(None, 0)
    helper = own._scrapes._helper
    try:
        assert (await metrics(request_for(own))).status == 200
        hanging = helper.pid
        assert hanging is not None
        os.kill(hanging, signal.SIGSTOP)
        own._scrapes._rendered.clear()  # it is a second later
        with monkeypatch.context() as patch:
            patch.setattr(helper, "timeout", 0.1)
            with pytest.raises(Unavailable, match=r"no answer within 0\.1 s") as raised:
                await metrics(request_for(own))
        assert raised.value.status == 503
        assert helper.pid is None and not is_running(hanging)
        answer = await metrics(request_for(own))
        assert answer.status == 200 and b"mlxnode_figures_up" in cast(bytes, answer.body)
        assert helper.pid not in (None, hanging)
    finally:
        helper.stop()


async def test_a_client_that_leaves_a_scrape_mixes_no_answers(rendered, monkeypatch):
    """The answer to its order still comes: nobody else reads it."""
    made, _, _ = rendered
    questions: list[bytes] = []
    begun, go_on = threading.Event(), threading.Event()
    ask = made._helper.ask

    def held(question):
        questions.append(question)
        begun.set()
        assert go_on.wait(20)
        return ask(question)

    monkeypatch.setattr(made._helper, "ask", held)
    leaving = asyncio.create_task(made.render(ORDER))
    assert await asyncio.to_thread(begun.wait, 20)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    next_one = asyncio.create_task(made.render(ORDER._replace(form="openmetrics")))
    await asyncio.sleep(0)
    assert len(questions) == 1  # it waits for the first one
    go_on.set()
    assert (await next_one).endswith(b"# EOF\n")
    assert not (await made.render(ORDER)).endswith(b"# EOF\n")
    assert len(questions) == 2
