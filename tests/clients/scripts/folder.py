"""What the scripts of all Python packages share: two tools, a question, and the command line.

Usage: <script> URL MODEL FOLDER INSTRUCTIONS API
"""

import os
import sys
from pathlib import Path

URL, MODEL, FOLDER, _instructions, API = sys.argv[1:]
KEY = os.environ["NODE_KEY"]
QUESTION = f"Which word does the file in {FOLDER} hold? List the folder and read the file."
INSTRUCTIONS = Path(_instructions).read_text()


def list_folder(path: str) -> list[str]:
    """List the names of the files in a folder."""
    return [file.name for file in Path(path).iterdir()]


def read_file(path: str) -> str:
    """Read a file."""
    return Path(path).read_text()
