"""The steps of the runners, one after the other: whose turn it is, and what a failure ends."""

import logging
from collections.abc import Callable, Sequence

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

    def step(self, runners: Sequence[Runner]) -> None:
        """One step of each runner that has work, in turn.

        Raises:
            Exception: of any type, from the last of ``MAX_FAILED_STEPS`` steps that failed.
        """
        for runner in runners:
            if runner.has_work:
                self._step_one(runner, [other for other in runners if other is not runner])

    def _step_one(self, runner: Runner, others: Sequence[Runner]) -> None:
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
            for key in runner.fail():
                failed = Failed(key.uid, "internal", f"the step failed: {error}")
                self._emit([Output(key.pipe_id, failed)])
            if self._num_failed >= MAX_FAILED_STEPS:
                raise
        else:
            self._num_failed = 0
