"""The table of families in docs/models.md, from the results of tests/test_families.py."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "families"
COLUMNS = ("calls", "thinking", "parsed", "streamed", "forced", "history", "cut")
HEAD = """
## Families

How each family writes reasoning and tool calls, tried over HTTP: a model that is made to write
its family's outputs, special tokens included, after prompts of a chat template in the style
of the family. The same tests made this table.

- **calls**: the notation of calls was read off the chat template (*template*), comes from a
  short list of families (*table*), or is explained to the model in a system message (*plain*).
- **thinking**: the marker that opens the reasoning; it comes as `reasoning_content`.
- **parsed**, **streamed**: outputs of the family give content, reasoning and calls, whole and
  as a stream.
- **forced**: `tool_choice: "required"` lets the family's own notation pass, and makes a model
  call that wants to say something else.
- **history**: an agent loop of three turns with two tools; the prompt tells calls and results.
- **cut**: a call that `max_tokens` cuts leaves no trace in the content.

"""


def write_cell(name: str, column: str, state: str, note: str = "") -> None:
    """Note one result for the table; the document is written by ``models_table.py``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.{column}.json"
    file.write_text(json.dumps([state, note]))


def table(names: list[str]) -> str:
    """The rows of ``names``; a cell without a result is "not run"."""
    titles = ("family", *COLUMNS)
    head = f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n"
    return HEAD + head + "\n".join(_row(name) for name in names) + "\n"


def _row(name: str) -> str:
    return f"| {name} | {' | '.join(_cell(name, column) for column in COLUMNS)} |"


def _cell(name: str, column: str) -> str:
    file = RESULTS / f"{name}.{column}.json"
    if not file.exists():
        return "not run"
    state, note = json.loads(file.read_text())
    shown = " ".join(note.split()).replace("|", "\\|")[:200]
    if state == "no":
        return f"**wrong**: {shown}"
    return shown or state
