"""Enters the box at the start of a process if ``$MACBOX`` names a machine."""

import importlib.abc
import importlib.machinery
import os
import sys
import types
from pathlib import Path

TESTS = Path(__file__).parents[2]


class AfterMlx(importlib.abc.MetaPathFinder):
    """Finds ``mlx.core`` as always, and changes it once it is loaded."""

    def __init__(self, change):
        self._change = change

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "mlx.core":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            sys.meta_path.remove(self)
            self._change()

        spec.loader.exec_module = exec_module
        return spec


def enter(name):
    # Not by a folder on the module path: transformers looks for a module called ``kernels``.
    for package in ("macbox", "metal"):
        module = types.ModuleType(package)
        module.__path__ = [str(TESTS / package)]
        sys.modules[package] = module
    from macbox import device, system
    from macbox.facts import MACS

    system.enter(MACS[name])
    sys.meta_path.insert(0, AfterMlx(lambda: device.as_gpu(MACS[name])))


if os.environ.get("MACBOX"):
    enter(os.environ["MACBOX"])
