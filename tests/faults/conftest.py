"""A node for faults, and the times of recovery, which are printed at the end.

``MLXNODE_FAULT_ROUNDS`` is how often each fault happens, ``MLXNODE_FAULT_TIMES`` a file for the
times.
"""

import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from support.faulty_node import WAIT, FaultyNode

ROUNDS = int(os.environ.get("MLXNODE_FAULT_ROUNDS", "1"))
_times: dict[str, list[float]] = defaultdict(list)


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory) -> Iterator[FaultyNode]:
    with FaultyNode(tmp_path_factory.mktemp("node")) as node:
        node.wait_ready(WAIT)
        yield node


@pytest.fixture
async def node(shared_node: FaultyNode) -> AsyncIterator[FaultyNode]:
    """A node that is well before and after, with nothing left of the test."""
    await shared_node.recovers()
    yield shared_node
    await shared_node.hang_up()
    await shared_node.recovers()
    await shared_node.is_clean()
    await shared_node.hang_up()
    assert shared_node.process.poll() is None


@pytest.fixture
async def own_node(tmp_path) -> AsyncIterator[Callable[..., FaultyNode]]:
    """Starts nodes for tests that end theirs, or that need another configuration."""
    nodes: list[FaultyNode] = []

    def start(*, is_ready: bool = True, **options: object) -> FaultyNode:
        nodes.append(FaultyNode(tmp_path, **options))
        if is_ready:
            nodes[-1].wait_ready(WAIT)
        return nodes[-1]

    yield start
    for node in nodes:
        await node.hang_up()
        node.__exit__()


@pytest.fixture
def note(request) -> Callable[[float], None]:
    """Notes the seconds of a recovery under the name of the test, the same in all rounds."""
    number = request.node.callspec.params.get("number")
    case = "" if number is None else f" ({number.name})"
    return _times[request.node.originalname.removeprefix("test_") + case].append


@pytest.fixture(params=range(ROUNDS))
def round(request) -> str:
    """A name for this round, for prompts that no other round has."""
    return f"{request.node.name} {request.param}"


def pytest_terminal_summary(terminalreporter) -> None:
    if file := os.environ.get("MLXNODE_FAULT_TIMES"):
        Path(file).write_text(json.dumps(_times, indent=1))
    for name, times in _times.items():
        if times:
            ordered = sorted(times)
            median, worst = ordered[len(ordered) // 2], ordered[-1]
            terminalreporter.write_line(
                f"{name}: {len(times)} recovered, median {median:.2f} s, worst {worst:.2f} s"
            )
