"""The log, with the same format in every process: lines on standard error."""

import logging

from mlxnode.config.tables import LogLevel


def set_up_logging(level: LogLevel) -> None:
    """Log the messages of ``level`` and of the more serious levels."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
