"""The steps of the runners, one after the other: whose turn it is, and what a failure ends."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from mlxnode.engine.lanes import Lanes
from mlxnode.engine.suspicion import Suspicion
from mlxnode.engine.trickle import Trickle
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
        trickle: Trickle | None = None,
    ):
        """``report`` tells the supervisor, ``emit`` the workers."""
        self._suspicion = suspicion
        self._report = report
        self._emit = emit
        self._trickle = trickle or Trickle()
        self._num_pieces = 0  # of the background beside the foreground
        self._num_failed = 0  # in a row

    def step(self, models: Sequence[Lanes], *, runs_background: bool = True) -> None:
        """One step of each model that has work in the foreground, in turn.

        If none has, it is one step of each in the background, if that ``runs_background``.
        Beside a foreground that does not end, the background gets pieces (``trickle.py``).

        Raises:
            Exception: of any type, from the last of ``MAX_FAILED_STEPS`` steps that failed.
        """
        foreground = [lanes.foreground for lanes in models]
        background = [lanes.background for lanes in models]
        has_foreground = any(runner.has_work for runner in foreground)
        has_background = any(runner.has_work for runner in background)
        if has_foreground or not runs_background:
            self._halt(models, background)
        if has_foreground:
            self._step_all(models, foreground)
            self._trickle.count_step()
            if has_background and runs_background and self._trickle.is_due:
                self._step_piece(models)
        elif runs_background:
            self._step_all(models, background)
        if not has_foreground or not has_background:
            self._trickle.reset()

    def _step_all(self, models: Sequence[Lanes], runners: Sequence[Runner]) -> None:
        for lanes, runner in zip(models, runners, strict=True):
            if runner.has_work:
                others = [each for each in runners if each is not runner]
                self._run(lanes, runner, runner.step(others))

    def _step_piece(self, models: Sequence[Lanes]) -> None:
        """One step of one model in the background; the models take turns."""
        foreground = [lanes.foreground for lanes in models]
        self._halt(models, foreground)  # its tokens do not wait for the piece
        started_at = time.perf_counter()
        ready = [lanes for lanes in models if lanes.background.has_work]
        if ready:
            lanes = ready[self._num_pieces % len(ready)]
            self._run(lanes, lanes.background, lanes.background.step(foreground, is_brief=True))
            self._halt([lanes], [lanes.background])
        self._num_pieces += 1
        self._trickle.count_piece(time.perf_counter() - started_at)

    def _halt(self, models: Sequence[Lanes], runners: Sequence[Runner]) -> None:
        """The runners stand still; their last tokens are told."""
        for lanes, runner in zip(models, runners, strict=True):
            if runner.has_work and not runner.is_halted:
                self._run(lanes, runner, runner.halt())

    def _run(self, lanes: Lanes, runner: Runner, outputs: Iterator[list[Output]]) -> None:
        """Emit the outputs of a step; an error ends the requests of its model."""
        self._suspicion.note(runner.active)
        try:
            for each in outputs:
                self._suspicion.note(runner.active)
                self._emit(each)
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
