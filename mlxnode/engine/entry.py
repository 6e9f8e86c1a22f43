"""The entry point of the engine process."""

import os
from multiprocessing.connection import Connection

from mlxnode.config.tables import NodeConfig
from mlxnode.engine import cpu
from mlxnode.models.served import ServedModel
from mlxnode.process.descriptors import unchanged_limits
from mlxnode.process.logging import set_up_logging
from mlxnode.process.signals import ignore_signals
from mlxnode.process.step_record import StepRecord


def run_engine(
    control: Connection,
    config: NodeConfig,
    models: list[ServedModel],
    record: StepRecord | None = None,
) -> None:
    """Load ``models`` and serve them until the supervisor says stop.

    ``record`` tells the supervisor afterwards which requests the engine worked on.
    """
    ignore_signals()
    set_up_logging(config.server.log_level)
    # On devices with tensor units, MLX would compute products of float32 as TF32, with 10 bits
    # of 23. The vectors of an embedding model would then depend on the machine.
    os.environ.setdefault("MLX_ENABLE_TF32", "0")
    cpu.prepare_process()
    with unchanged_limits():
        from mlxnode.engine import main  # imports mlx, so not before the process is prepared

    main.run(control, config, models, record)
