"""aider, which has no tools: it reads commands and names of files out of the text."""

from clients.loop import ROOT, Client, Workspace
from clients.settings import command
from support.reading_model import Turn

AIDER = ROOT / "aider" / "bin" / "aider"
# It knows the files of a repository only.
RUN = 'cd "$FOLDER" && git init --quiet && git add . && exec "$@"'
AIDER_OPTIONS = [
    "--edit-format=diff",
    "--map-tokens=0",
    "--no-auto-commits",
    "--no-gitignore",
    "--no-check-update",
    "--no-show-model-warnings",
    "--no-show-release-notes",
    "--analytics-disable",
    "--no-fancy-input",
    "--no-pretty",
]


def _turns(workspace: Workspace) -> list[Turn]:
    """The command of the first turn is run, and the file of the second one is added."""
    return [
        Turn("", "I list the folder first.\n\n```bash\nls\n```\n"),
        Turn(workspace.name, f"Now I have to read the file {workspace.file.name} there."),
        Turn(workspace.word, f"The file holds this word: {workspace.word}"),
    ]


def _command(workspace: Workspace, url: str) -> list[object]:
    return [
        "sh",
        "-c",
        RUN,
        "sh",
        AIDER,
        *command("aider", url, "aider"),
        *AIDER_OPTIONS,
    ]


def _says(workspace: Workspace) -> str:
    """The question; yes to the command and its output; go on; yes to the file."""
    return f"{workspace.question}\ny\ny\nGo on.\ny\n/exit\n"


AIDER_CHAT = Client(
    "aider",
    "/v1/chat/completions",
    _turns,
    _command,
    lambda workspace, _: {"FOLDER": str(workspace.folder)},
    says=_says,
    needs=AIDER,
    # A third of each prompt is a reminder at its end, which no later prompt has in that place.
    least_cached=0.6,
)
