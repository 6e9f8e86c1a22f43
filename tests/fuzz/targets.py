"""What coverage-guided fuzzing drives: pure functions that read what others have written.

A target takes any bytes. It raises nothing but what its docstring allows, and holds what is
asserted in it.
"""

import importlib
from types import ModuleType

from fuzz.readers import READERS
from fuzz.target import Target
from fuzz.wire_readers import WIRE_READERS

TARGETS = {target.name: target for target in (*READERS, *WIRE_READERS)}


def import_modules(target: Target) -> list[ModuleType]:
    """The modules of ``target``, with what they import."""
    return [importlib.import_module(name) for name in target.modules]


if __name__ == "__main__":
    print(*TARGETS)
