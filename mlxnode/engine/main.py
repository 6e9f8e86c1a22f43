"""The engine process after its start: load the models, then serve.

``entry`` prepares the process before this file, and with it mlx, is imported.
"""

from multiprocessing.connection import Connection

from mlxnode.config.tables import NodeConfig
from mlxnode.engine.figures import FiguresReader
from mlxnode.engine.loading import ModelLoader
from mlxnode.engine.loop import Engine, release_memory
from mlxnode.engine.memory.device import limit_memory, memory_limit
from mlxnode.engine.memory.guard import MemoryGuard, MemoryMeter
from mlxnode.engine.memory.wired import unwire, wire_weights
from mlxnode.kernels import backend
from mlxnode.messages.control import Fatal, Progress
from mlxnode.models.served import ServedModel
from mlxnode.process.step_record import StepRecord


def run(
    control: Connection,
    config: NodeConfig,
    models: list[ServedModel],
    record: StepRecord | None = None,
) -> None:
    """Load ``models`` and serve them until the supervisor says stop.

    The requests of each step are written to ``record``.
    """
    meter = MemoryMeter()
    limit_memory(config.engine)
    engine = Engine(control, record)
    try:
        loader = ModelLoader(
            config.engine,
            report=lambda text: engine.report(Progress(text)),
            on_load=lambda id: engine.report(Progress("", id)),
        )
        loaded = loader.load(models)
    except backend.BackendError as error:
        engine.report(Fatal(str(error)))
    else:
        wired = wire_weights(config.engine)
        guard = MemoryGuard(memory_limit(config.engine), meter.used, release_memory)
        figures = FiguresReader(config.engine, loaded, loader.budget, guard, wired)
        engine.serve(loaded, guard, figures)
    engine.run()
    unwire()
