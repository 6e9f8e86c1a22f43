"""The ranks of an engine on several machines, as the supervisor and the workers know them."""

from collections.abc import Sequence

from msgspec.structs import replace

from mlxnode.figures import RankFigures
from mlxnode.messages.control import Ranks
from mlxnode.process.child import Child
from mlxnode.process.crashes import EngineCrashes


class RankStates:
    """What the engine has told about its ranks; a loss is remembered until all are back."""

    def __init__(self, engine: Child, workers: Sequence[Child]):
        self._engine, self._workers = engine, workers
        self.figures: list[RankFigures] = []  # empty: the engine is on one machine
        self._told: list[RankFigures] = []

    def note(self, figures: Sequence[RankFigures], crashes: EngineCrashes) -> None:
        """The engine has told its ranks. It ends if one is lost, for no other reason."""
        if any(rank.state == "lost" for rank in figures):
            crashes.excuse()
        reasons = {rank.rank: rank.reason for rank in self.figures}
        self.figures = [
            replace(rank, reason=rank.reason or reasons.get(rank.rank, ""))
            if rank.state != "ready"
            else rank
            for rank in figures
        ]
        self._tell_all()

    def update(self) -> None:
        """Without an engine, no rank is ready: all of them start with the next one."""
        if self.figures and not self._engine.is_alive and self._is_ready:
            self.figures = [
                replace(rank, state="starting", memory_bytes=0) for rank in self.figures
            ]
            first = replace(self.figures[0], state="lost", reason="the engine has ended")
            self.figures[0] = first
            self._tell_all()

    def tell(self, worker: Child) -> None:
        """Tell a worker that has just become ready."""
        if self.figures:
            worker.send(Ranks(self._states))

    @property
    def _is_ready(self) -> bool:
        return all(rank.state == "ready" for rank in self.figures)

    @property
    def _states(self) -> list[RankFigures]:
        return [replace(rank, memory_bytes=0) for rank in self.figures]

    def _tell_all(self) -> None:
        if (states := self._states) != self._told:
            self._told = states
            for worker in self._workers:
                if worker.is_ready:
                    worker.send(Ranks(states))
