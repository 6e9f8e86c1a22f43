"""Why the engine died: a request of its step, or a model that it was loading."""

import logging
import time
from collections import Counter
from collections.abc import Iterable

from mlxnode.messages.control import Cleared, Loaded, LoadFailed, Suspects
from mlxnode.process.step_record import StepRecord
from mlxnode.process.suspects import SuspectList

log = logging.getLogger("mlxnode.supervisor")

MAX_LOAD_CRASHES = 3  # of a model; then the engine does without it


class EngineCrashes:
    """The deaths of all incarnations of the engine, and what follows from each.

    ``record`` is written by the engine. ``failed_models`` are those that ended the engine each
    time it loaded them, at its start or for a request, by id, with the reason.
    """

    def __init__(self) -> None:
        self.record = StepRecord()
        self.failed_models: dict[str, str] = {}
        self._suspects = SuspectList()
        self._loading: str | None = None
        self._load_crashes: Counter[str] = Counter()
        self._is_excused = False
        self._seen: set[str] = set()  # by this engine
        self._proven: set[str] = set()  # loaded once, so another death has another reason

    @property
    def suspects(self) -> Suspects:
        """What the engine has to know about requests."""
        return self._suspects.message

    def forgive(self, model_ids: Iterable[str]) -> None:
        """These models are other ones now, and may be loaded."""
        for id in model_ids:
            self.failed_models.pop(id, None)
            self._load_crashes.pop(id, None)
            self._proven.discard(id)

    def note_start(self) -> None:
        """A new engine starts: it works on nothing."""
        self._loading = None
        self._is_excused = False
        self._seen.clear()
        self.record.write(())

    def note_loading(self, model_id: str | None) -> None:
        """The engine loads this model from now on; None: the one before still."""
        if model_id is not None:
            self._loading = model_id
            self._seen.add(model_id)

    def take(self, message: Loaded | LoadFailed | Cleared) -> None:
        """What the engine tells while it serves."""
        match message:
            case Loaded(model):
                self._loading = None
                self._proven.add(model)
            case LoadFailed():  # the engine lives, and has given up what it was loading
                self._loading = None
            case Cleared(fingerprint):
                self._suspects.clear(fingerprint)

    def note_ready(self) -> None:
        """All models are loaded, or have failed."""
        self._loading = None
        self._proven |= self._seen

    def note_step(self, fingerprints: list[bytes]) -> None:
        """A step of these requests ended the engine, or raised an exception."""
        if self._suspects.note_death(fingerprints, time.monotonic()):
            log.warning("a request that was in the failed steps of the engine is refused now")

    def excuse(self) -> None:
        """The engine is about to die of something else than its requests and its models."""
        self._is_excused = True

    def note_death(self) -> bool:
        """The engine has died; True if it is known what it died of.

        An engine that serves loads models between its steps. It was in a step if it has left a
        record; otherwise, it worked on the model.
        """
        if self._is_excused:
            return False
        fingerprints = self.record.read()
        if (id := self._loading) is not None and not fingerprints:
            self._load_crashes[id] += id not in self._proven
            if self._load_crashes[id] >= MAX_LOAD_CRASHES:
                self.failed_models[id] = "the engine dies while it loads this model"
            return False
        self.note_step(fingerprints)
        return bool(fingerprints)
