"""The benchmarks import each other by file name, so their folder is on the path here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
