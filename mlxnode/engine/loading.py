"""Loads models once, to find out whether a node could serve them."""

import logging
from collections.abc import Sequence

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.memory.device import limit_memory
from mlxnode.engine.residency.residency import Residency
from mlxnode.engine.residency.waiting import Work
from mlxnode.engine.work import RequestKey
from mlxnode.kernels import backend
from mlxnode.messages.control import ChildToSupervisor
from mlxnode.messages.data import Done, Failed, Load, ModelStates
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")


def load_once(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, str]:
    """The models that cannot be served, each with the reason; the others are dropped.

    Those that a node loads when it starts are loaded together, then each of the others.
    """
    limit_memory(config)
    orders = _Orders()
    try:
        residency = Residency(config, backend.choose(config.kernels), orders, log.info)
        residency.start(models)
    except backend.BackendError as error:
        return {model.id: str(error) for model in models}
    for uid, model in enumerate(models):
        if model.id not in residency.failed:
            residency.order(0, Load(uid, model.id))
            while residency.advance():
                pass
    return residency.failed


class _Orders:
    """A host without supervisor, workers and requests."""

    def run_request(self, key: RequestKey, message: Work) -> None:
        raise RuntimeError("there are no requests")

    def give_back(self, key: RequestKey) -> None:
        raise RuntimeError("there are no requests")

    def answer(self, pipe_id: int, message: Done | Failed) -> None:
        log.debug("model %d: %s", message.uid, message)

    def report(self, message: ChildToSupervisor) -> None:
        pass  # nobody listens

    def begin_loading(self, model_id: str) -> None:
        pass  # a death is the caller's to explain

    def begin_piece(self) -> None:
        pass  # there is no other work

    def tell_states(self, states: ModelStates) -> None:
        pass  # there are no workers

    def on_memory(self, weights: int, /) -> None:
        pass  # nothing is wired for this moment
