"""The engine process after its start: load the models that are to be loaded, then serve.

``entry`` prepares the process before this file, and with it mlx, is imported.
"""

from multiprocessing.connection import Connection

from mlxnode.config.tables import NodeConfig
from mlxnode.engine.figures import FiguresReader
from mlxnode.engine.loop import Engine
from mlxnode.engine.memory.device import limit_memory, memory_limit
from mlxnode.engine.memory.guard import MemoryGuard, MemoryMeter
from mlxnode.engine.memory.wired import WiredWeights, unwire
from mlxnode.engine.ranks.forming import formed
from mlxnode.engine.ranks.leader import led
from mlxnode.engine.residency.release import release_memory
from mlxnode.engine.residency.residency import Residency
from mlxnode.errors import NodeError
from mlxnode.kernels import backend
from mlxnode.messages.control import Fatal
from mlxnode.models.served import ServedModel
from mlxnode.process.step_record import StepRecord


def run(
    control: Connection,
    config: NodeConfig,
    models: list[ServedModel],
    record: StepRecord | None = None,
) -> None:
    """Serve ``models`` until the supervisor says stop; those with ``preload`` are loaded now.

    The requests of each step are written to ``record``.
    """
    meter = MemoryMeter()
    limit_memory(config.engine)
    wired = WiredWeights(config.engine)
    engine = Engine(control, record, wired.wire)
    cluster = None
    try:
        cluster = formed(config.engine, engine)
        kernels = backend.choose(config.engine.kernels)
        ranks = None if cluster is None else led(cluster, cluster.strategy)
        residency = Residency(config.engine, kernels, engine, engine.say, ranks)
        residency.start(models)
    except (backend.BackendError, NodeError) as error:
        engine.report(Fatal(str(error)))
    else:
        guard = MemoryGuard(memory_limit(config.engine), meter.used, release_memory)
        engine.serve(residency, guard, FiguresReader(config.engine, residency, guard, wired))
    engine.run()
    if cluster is not None:
        cluster.close()
    unwire()
