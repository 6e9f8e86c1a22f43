"""Rounds: each load on each server in turn, so that all of them notice what else runs."""

import asyncio
from collections.abc import Callable, Sequence

from mlxnode.bench.figures import Figure, medians
from mlxnode.bench.loads import Load, Loaded, within_limits
from mlxnode.bench.servers import Server

Say = Callable[[str], None]


def measure(
    servers: Sequence[Server], load: Load, clients: Sequence[int], num_rounds: int, say: Say
) -> list[Figure]:
    """The median of each figure over the rounds. Every round has new prompts.

    Raises:
        BenchError: a server refuses the load, or is not there.
    """
    return asyncio.run(_measure(servers, load, clients, num_rounds, say))


async def _measure(
    servers: Sequence[Server], load: Load, clients: Sequence[int], num_rounds: int, say: Say
) -> list[Figure]:
    loaded = [Loaded(server, load) for server in servers]
    for one in loaded:
        say(f"{load.kind}: {one.server.name} warms up")
        await within_limits(one, None, 0)
    figures = []
    for number in range(num_rounds):
        # The first one of a round is another one in the next round.
        order = loaded[number % len(loaded) :] + loaded[: number % len(loaded)]
        for num_clients in clients:
            for one in order:
                say(
                    f"{load.kind}, round {number + 1} of {num_rounds}: {one.server.name}, "
                    f"{num_clients} at a time"
                )
                seed = 1_000_000 * (number + 1) + 1000 * num_clients
                figures += await within_limits(one, num_clients, seed)
    return medians(figures)
