"""Both lanes of a tiny model, stepped by the test as the engine's loop steps them."""

from collections import defaultdict

from mlx import nn
from support.running import make_parts

from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.lanes import Lanes
from mlxnode.engine.stepping import Stepper
from mlxnode.engine.suspicion import Suspicion
from mlxnode.engine.trickle import Trickle
from mlxnode.engine.work import Output, RequestKey
from mlxnode.messages.control import StepFailed
from mlxnode.messages.data import Failed, Generate, Update

PIPE = 1


def make_lanes(model: nn.Module, **config) -> Lanes:
    parts = make_parts(model, **config)
    return Lanes(TextRunner(parts), TextRunner(parts, is_background=True))


def rows_of(lanes: Lanes) -> list[int]:
    """The rows of the foreground, and of the background."""
    return [lane.figures().num_running for lane in (lanes.foreground, lanes.background)]


class Stepped:
    """Models whose steps the test asks for.

    The background gets no piece beside the foreground, unless the test gives a ``trickle``.
    """

    def __init__(self, *models: Lanes, trickle: Trickle | None = None):
        self.models = models
        self.tokens: defaultdict[int, list[int]] = defaultdict(list)
        self.failed: dict[int, Failed] = {}
        self.ended: list[int] = []
        self.num_failed_steps = 0
        self.told: list[set[int]] = []  # the uids of each emission
        trickle = trickle or Trickle(clock=lambda: 0.0)
        self._stepper = Stepper(Suspicion(None), self._note_failure, self._emit, trickle)

    def send(self, lanes: Lanes, message: Generate) -> None:
        assert lanes.add(RequestKey(PIPE, message.uid), message) is None

    def step(self, *, runs_background: bool = True) -> None:
        self._stepper.step(self.models, runs_background=runs_background)

    def run(self) -> None:
        for _ in range(5000):
            if not any(lanes.has_work for lanes in self.models):
                return
            self.step()
        raise AssertionError("the requests do not end")

    def run_until(self, uid: int, num_tokens: int) -> None:
        """Until the request has so many tokens."""
        for _ in range(5000):
            if len(self.tokens[uid]) >= num_tokens:
                return
            self.step()
        raise AssertionError(f"{uid} has {len(self.tokens[uid])} tokens")

    def _note_failure(self, _: StepFailed) -> None:
        self.num_failed_steps += 1

    def _emit(self, outputs: list[Output]) -> None:
        if outputs:
            self.told.append({output.message.uid for output in outputs})
        for output in outputs:
            message = output.message
            if isinstance(message, Update):
                self.tokens[message.uid] += [token.id for token in message.tokens]
            elif isinstance(message, Failed):
                self.failed[message.uid] = message
            if output.is_last:
                self.ended.append(message.uid)
