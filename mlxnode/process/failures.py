"""The models that cannot be served: what each process has reported, put together."""

import logging
from collections.abc import Iterable, Mapping

log = logging.getLogger("mlxnode.supervisor")

_START = "start"  # what was found before any child was started


class ModelFailures:
    """The failed models of the node. A model that one process cannot serve is failed.

    A child reports when it is ready; its report replaces that of its last incarnation.
    """

    def __init__(self, model_ids: Iterable[str], found: Mapping[str, str]):
        """``model_ids`` are the configured models; ``found`` those that failed already."""
        self._model_ids = list(model_ids)
        self._reports: dict[str, Mapping[str, str]] = {_START: found}

    @property
    def reasons(self) -> dict[str, str]:
        """The failed models by id, each with the reason that was reported first."""
        merged: dict[str, str] = {}
        for report in self._reports.values():
            merged = dict(report) | merged
        return {id: merged[id] for id in self._model_ids if id in merged}

    @property
    def is_nothing_left(self) -> bool:
        """True if models are configured, and all of them failed."""
        return bool(self._model_ids) and len(self.reasons) == len(self._model_ids)

    def replace(
        self, model_ids: Iterable[str], found: Mapping[str, str], changed: Iterable[str]
    ) -> None:
        """Other models are configured. What children reported of ``changed`` ones is old."""
        before, gone = self.reasons, set(changed)
        self._model_ids = list(model_ids)
        self._reports = {
            child: {id: reason for id, reason in report.items() if id not in gone}
            for child, report in self._reports.items()
        } | {_START: found}
        self._log(before)

    def update(self, child: str, failed: Mapping[str, str]) -> None:
        """Take the report of a child, and log the changes."""
        before = self.reasons
        self._reports[child] = failed
        self._log(before)

    def _log(self, before: Mapping[str, str]) -> None:
        after = self.reasons
        for id, reason in after.items():
            if id not in before:
                log.error("api.models.%s cannot be served: %s", id, reason)
        for id in before:
            if id not in after and id in self._model_ids:
                log.info("api.models.%s is served again", id)

    def describe(self) -> str:
        """One line for each failed model."""
        return "\n".join(f"api.models.{id}: {reason}" for id, reason in self.reasons.items())
