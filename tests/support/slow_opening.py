"""A worker that opens a model when the test says so, and keeps streams alive often."""

import os
from typing import Any

from mlxnode.server.answer import sse
from mlxnode.server.registry import registry
from mlxnode.server.worker import run_worker

GATE = "MLXNODE_TEST_GATE"  # the environment variable with the path of a FIFO
SLOW = "slow-chat"  # the id of the model


def run_slow_worker(*args: Any) -> None:
    """``run_worker``; the model ``SLOW`` is opened after a line comes through the FIFO.

    If the line is not empty, opening the model fails with that text.
    """
    real = registry.open_model

    def open_model(served: Any, *others: Any, **options: Any) -> Any:
        if served.id == SLOW:
            with open(os.environ[GATE]) as gate:
                if problem := gate.readline().strip():
                    raise ValueError(problem)
        return real(served, *others, **options)

    registry.open_model = open_model
    sse.KEEP_ALIVE_EVERY = 0.2
    run_worker(*args)
