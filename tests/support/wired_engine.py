"""An engine with the device facts of a Mac, which notes each wired limit that is set."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from mlxnode.config.tables import NodeConfig
from mlxnode.engine.entry import run_engine
from mlxnode.models.served import ServedModel

FILE = "MLXNODE_TEST_WIRED"  # the environment variable with the name of the file of notes
RECOMMENDED = 20 * 10**9  # bytes


def run_wired_engine(
    control: Connection, config: NodeConfig, models: list[ServedModel], *_: object
) -> None:
    """``run_engine``; each call of ``mx.set_wired_limit`` adds a line with its bytes."""
    import mlx.core as mx

    notes = Path(os.environ[FILE])

    def note(size: int) -> int:
        with notes.open("a") as file:
            file.write(f"{size}\n")
        return 0

    facts = mx.device_info() | {"max_recommended_working_set_size": RECOMMENDED}
    mx.set_wired_limit, mx.device_info = note, lambda: facts
    run_engine(control, config, models)
