"""The residency of an engine in the process of the test, with its runners and without pipes."""

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.residency.known import KnownModel
from mlxnode.engine.residency.residency import Residency
from mlxnode.engine.residency.waiting import Work
from mlxnode.engine.stepping import Stepper
from mlxnode.engine.suspicion import Suspicion
from mlxnode.engine.work import GIVEN_BACK, Output, RequestKey
from mlxnode.kernels.backend import OPS
from mlxnode.messages.control import ChildToSupervisor, StepFailed
from mlxnode.messages.data import Done, Embedded, Failed, Load, ModelStates, Unload, Update
from mlxnode.models.served import ServedModel

PIPE = 1
MAX_ROUNDS = 5000


class Residence:
    """A host of a ``Residency`` that runs requests, and notes all that happens.

    ``events`` has, in order: the uid of each piece of an answer, and "piece" for each piece of
    a load or unload.
    """

    def __init__(self, *models: ServedModel, **engine: object):
        self.lines: list[str] = []
        self.reports: list[ChildToSupervisor] = []
        self.states: list[ModelStates] = []
        self.answers: dict[int, Done | Failed | Embedded] = {}
        self.tokens: dict[int, list[int]] = {}
        self.events: list[int | str] = []
        self.weights: list[int] = []  # after each change
        self._requests: dict[RequestKey, KnownModel] = {}
        config = EngineConfig(**engine)
        self.residency = Residency(config, OPS, self, self.lines.append)
        self.residency.start(models)
        self._stepper = Stepper(Suspicion(None), self._fail, self._emit)

    # --- what tests do --------------------------------------------------------------

    def send(self, message: Work | Load | Unload) -> None:
        """As a worker sends it."""
        if isinstance(message, Load | Unload):
            self.residency.order(PIPE, message)
            return
        key, model = RequestKey(PIPE, message.uid), self.residency.find(message.model)
        assert model is not None
        self._requests[key] = model
        if model.accepts:
            self.run_request(key, message)
        elif (refusal := self.residency.wait(model, key, message)) is not None:
            self.answer(PIPE, refusal)

    def abort(self, uid: int) -> None:
        key = RequestKey(PIPE, uid)
        model = self._requests.pop(key, None)
        if model is None:
            self.residency.withdraw(key)
            return
        if model.loaded is not None:
            model.loaded.runner.abort(key)
        self.residency.end(model, key)

    def round(self) -> bool:
        """One step of each runner and one piece; False if there was nothing to do."""
        had_work = any(lanes.has_work for lanes in self.residency.runners)
        self._stepper.step(self.residency.runners)
        return self.residency.advance() or had_work

    def settle(self) -> None:
        """Work until nothing is left to do."""
        for _ in range(MAX_ROUNDS):
            if not self.round():
                return
        raise AssertionError(f"no end: {self.residency.states}")

    def ask(self, message: Work | Load | Unload) -> Done | Failed | Embedded | list[int]:
        """The answer, or the tokens."""
        self.send(message)
        self.settle()
        uid = message.uid
        return self.answers[uid] if uid in self.answers else self.tokens[uid]

    @property
    def loaded(self) -> list[str]:
        states = self.residency.states.states
        return [id for id, state in states.items() if state == "loaded"]

    def state(self, id: str) -> str:
        return self.residency.states.states[id]

    # --- what the residency asks for ------------------------------------------------

    def run_request(self, key: RequestKey, message: Work) -> None:
        model = self._requests[key]
        self.residency.begin(model, key, message.background)
        assert model.loaded is not None
        if (refusal := model.loaded.runner.add(key, message)) is not None:
            self.answer(key.pipe_id, refusal)

    def give_back(self, key: RequestKey) -> None:
        self.abort(key.uid)
        self.answers[key.uid] = Failed(key.uid, "overloaded", GIVEN_BACK)

    def answer(self, pipe_id: int, message: Done | Failed) -> None:
        self._take(RequestKey(pipe_id, message.uid), message)

    def report(self, message: ChildToSupervisor) -> None:
        self.reports.append(message)

    def begin_loading(self, model_id: str) -> None:
        self.events.append(f"loading {model_id}")

    def begin_piece(self) -> None:
        self.events.append("piece")

    def tell_states(self, states: ModelStates) -> None:
        self.states.append(states)

    def on_memory(self, weights: int, /) -> None:
        self.weights.append(weights)

    def _fail(self, failed: StepFailed) -> None:
        raise AssertionError("a step failed")

    def _emit(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._take(output.key, output.message)

    def _take(self, key: RequestKey, message: Update | Embedded | Done | Failed) -> None:
        self.events.append(key.uid)
        if isinstance(message, Update):
            self.tokens.setdefault(key.uid, []).extend(token.id for token in message.tokens)
            is_last = message.finish is not None
        else:
            self.answers[key.uid] = message
            is_last = True
        if is_last and (model := self._requests.pop(key, None)) is not None:
            self.residency.end(model, key)
