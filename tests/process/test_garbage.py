"""The objects that a process has loaded are exempt from garbage collection."""

import subprocess
import sys

_CODE = """
import gc
from mlxnode.process import garbage
kept = [[] for _ in range(1000)]
garbage.freeze()
tracked = {id(x) for x in gc.get_objects()}
print(gc.get_freeze_count() > 1000, any(id(x) in tracked for x in kept))
"""


def test_freeze_exempts_existing_objects():
    output = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, check=True
    ).stdout
    assert output.split() == ["True", "False"]
