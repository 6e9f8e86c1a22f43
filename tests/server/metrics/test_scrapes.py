"""The process that renders: it is asked once a second at most, and may end at any time."""

import asyncio

import pytest

from mlxnode.server.metrics import scrapes
from mlxnode.server.metrics.rendering import Order
from mlxnode.server.metrics.scrapes import Scrapes

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

    class Counting(scrapes._Helper):
        def render(self, order: Order) -> bytes:
            asked.append(order)
            return super().render(order)

    monkeypatch.setattr(scrapes, "_Helper", Counting)
    clock = Clock()
    made = Scrapes(clock)
    yield made, clock, asked
    made._helper._stop()


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
    killed = made._helper._process
    killed.kill()
    killed.wait()
    clock.now += 2
    assert b"mlxnode_figures_up" in await made.render(ORDER)
    assert made._helper._process.pid != killed.pid


async def test_a_process_that_cannot_start_is_an_error_and_the_next_scrape_tries_again(
    rendered, monkeypatch
):
    made, _, _ = rendered

    def fail(module):
        raise OSError("no process left")

    with monkeypatch.context() as patch:
        patch.setattr(scrapes, "start_helper", fail)
        with pytest.raises(OSError, match="no process left"):
            await made.render(ORDER)
    assert await made.render(ORDER)
