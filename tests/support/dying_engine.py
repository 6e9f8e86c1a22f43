"""An engine that dies of the weights of a model whose folder has a file ``deadly``."""

import os
import signal
from collections.abc import Generator
from multiprocessing.connection import Connection
from typing import Any

from mlxnode.config.tables import NodeConfig
from mlxnode.engine.entry import run_engine
from mlxnode.models.served import ServedModel
from mlxnode.process.step_record import StepRecord


def run_dying_engine(
    control: Connection,
    config: NodeConfig,
    models: list[ServedModel],
    record: StepRecord | None = None,
) -> None:
    from mlxnode.engine.residency import loading

    load = loading.load_in_pieces

    def die(model: ServedModel, *rest: Any) -> Generator[None, None, Any]:
        if (model.folder / "deadly").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return load(model, *rest)

    loading.load_in_pieces = die
    run_engine(control, config, models, record)
