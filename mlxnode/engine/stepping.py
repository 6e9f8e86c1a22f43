"""The steps of the runners, one after the other: whose turn it is, and what a failure ends."""

import logging
from collections.abc import Callable, Sequence

from mlxnode.engine.lanes import Lanes
from mlxnode.engine.suspicion import Suspicion
from mlxnode.engine.work import Output, Runner
from mlxnode.messages.control import StepFailed
from mlxnode.messages.data import Failed

log = logging.getLogger("mlxnode.engine")

# More failed steps in a row are no accident of the data of one request: the process ends, and
# the supervisor starts a new one.
MAX_FAILED_STEPS = 3


class Stepper:
    """Steps the runners of an engine, and sends what they put out."""

    def __init__(
        self,
        suspicion: Suspicion,
        report: Callable[[StepFailed], None],
        emit: Callable[[list[Output]], None],
    ):
        """``report`` tells the supervisor, ``emit`` the workers."""
        self._suspicion = suspicion
        self._report = report
        self._emit = emit
        self._num_failed = 0  # in a row

    def step(self, models: Sequence[Lanes], *, runs_background: bool = True) -> None:
        """One step of each model that has work in the foreground, in turn.

        If none has, it is one step of each in the background, if that ``runs_background``.

        Raises:
            Exception: of any type, from the last of ``MAX_FAILED_STEPS`` steps that failed.
        """
        runners = [lanes.foreground for lanes in models]
        if is_background := not any(runner.has_work for runner in runners):
            runners = [lanes.background for lanes in models]
        if not is_background or not runs_background:
            self.halt(models)
        if is_background and not runs_background:
            return
        for lanes, runner in zip(models, runners, strict=True):
            if runner.has_work:
                self._step_one(lanes, runner, [each for each in runners if each is not runner])

    def halt(self, models: Sequence[Lanes]) -> None:
        """The background of all models stands still; its last tokens are told."""
        for lanes in models:
            if outputs := lanes.halt():
                self._emit(outputs)

    def _step_one(self, lanes: Lanes, runner: Runner, others: Sequence[Runner]) -> None:
        self._suspicion.note(runner.active)
        try:
            for outputs in runner.step(others):
                self._suspicion.note(runner.active)
                self._emit(outputs)
        except Exception as error:
            self._num_failed += 1
            self._report(StepFailed(self._suspicion.noted))
            self._suspicion.note(())  # reported; it need not be blamed for the end as well
            log.exception("a step failed; its requests end with an error")
            for key in lanes.fail():
                failed = Failed(key.uid, "internal", f"the step failed: {error}")
                self._emit([Output(key.pipe_id, failed)])
            if self._num_failed >= MAX_FAILED_STEPS:
                raise
        else:
            self._num_failed = 0
