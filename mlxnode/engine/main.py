"""The engine process after its start: load the models that are to be loaded, then serve.

``entry`` prepares the process before this file, and with it mlx, is imported.
"""

from multiprocessing.connection import Connection

from mlxnode.config.tables import EngineConfig, NodeConfig
from mlxnode.engine.figures import FiguresReader
from mlxnode.engine.loop import Engine
from mlxnode.engine.memory.device import limit_memory, memory_limit
from mlxnode.engine.memory.guard import MemoryGuard, MemoryMeter
from mlxnode.engine.memory.wired import WiredWeights, unwire
from mlxnode.engine.ranks.cluster import Cluster
from mlxnode.engine.ranks.forming import formed
from mlxnode.engine.ranks.leader import led
from mlxnode.engine.ranks.strain import Strain
from mlxnode.engine.residency.release import release_memory
from mlxnode.engine.residency.residency import Residency
from mlxnode.errors import NodeError
from mlxnode.kernels import backend
from mlxnode.messages.control import Fatal
from mlxnode.models.served import ServedModel
from mlxnode.process.step_record import StepRecord


def guard_of(config: EngineConfig, meter: MemoryMeter, cluster: Cluster | None) -> MemoryGuard:
    """The guard of the memory of this machine, or of all in ``cluster``."""
    limit = memory_limit(config)
    if cluster is None:
        return MemoryGuard(limit, meter.used, release_memory)
    strain = Strain(meter, limit, cluster)
    return MemoryGuard(
        limit, strain.used, release_memory, is_system_short=strain.is_system_short
    )


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
        guard = guard_of(config.engine, meter, cluster)
        engine.serve(residency, guard, FiguresReader(config.engine, residency, guard, wired))
    engine.run()
    if cluster is not None:
        cluster.close()
    unwire()
