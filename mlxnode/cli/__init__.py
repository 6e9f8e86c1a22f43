"""The command line: one module for each command, on click and rich.

``group.py`` has the table of the commands. Imports config, doctor, errors, models and process,
within functions: spawned children import this package again.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code. Default: the arguments of the process."""
    from mlxnode.cli.group import run

    return run(arguments)
