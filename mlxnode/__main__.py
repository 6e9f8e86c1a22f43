"""``python -m mlxnode``."""

import sys

from mlxnode.cli import main

if __name__ == "__main__":
    sys.exit(main())
