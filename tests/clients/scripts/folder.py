"""What the scripts of all Python packages share: two tools, a question, and the command line.

Usage: <script> URL MODEL FOLDER [API]
"""

import sys
from pathlib import Path

URL, MODEL, FOLDER = sys.argv[1:4]
API = sys.argv[4] if len(sys.argv) > 4 else "chat"
KEY = "sk-clients-0123456789abcdef"
QUESTION = f"Which word does the file in {FOLDER} hold? List the folder and read the file."
# As long as those of an agent: a short prompt is mostly what each turn adds.
INSTRUCTIONS = "You answer questions about files. You call one tool at a time.\n" + (
    Path(__file__).parents[3] / "docs" / "architecture.md"
).read_text()


def list_folder(path: str) -> list[str]:
    """List the names of the files in a folder."""
    return [file.name for file in Path(path).iterdir()]


def read_file(path: str) -> str:
    """Read a file."""
    return Path(path).read_text()
