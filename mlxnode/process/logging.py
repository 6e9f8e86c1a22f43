"""The log, the same in every process: lines on standard error."""

import logging


def set_up_logging(level: str) -> None:
    """Log what is at least as serious as ``level``, a name of ``server.log_level``."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
