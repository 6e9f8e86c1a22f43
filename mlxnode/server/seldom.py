"""Lines in the log that clients can cause: a flood of requests is no flood of lines."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_PERIOD = 60.0  # seconds
_MAX_KINDS = 64  # that have a line in one period; clients can choose the words of some


@dataclass
class _Kind:
    until: float
    num_left_out: int = 0


class SeldomLog:
    """Writes one line of a kind a minute, and counts the others. They are left to ``debug``."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic):
        self._logger = logger
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def log(self, level: int, kind: str, message: str, *args: Any, **options: Any) -> None:
        """Log ``message`` at ``level``, unless ``kind`` had its line within the last minute."""
        now = self._clock()
        known = self._kinds.get(kind)
        if known is not None and now < known.until:
            known.num_left_out += 1
            self._logger.debug(message, *args)
            return
        if known is None and len(self._kinds) >= _MAX_KINDS:
            self._kinds = {k: v for k, v in self._kinds.items() if now < v.until}
            if len(self._kinds) >= _MAX_KINDS:
                self._logger.debug(message, *args)
                return
        if known is not None and known.num_left_out:
            message += " (and %d more like this one before it)"
            args = (*args, known.num_left_out)
        self._kinds[kind] = _Kind(now + _PERIOD)
        self._logger.log(level, message, *args, **options)
