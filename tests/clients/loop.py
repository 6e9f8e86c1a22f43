"""A client at work: it lists a folder, reads the file in it, and tells what the file says."""

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
from clients.recorder import Exchange, Recorder
from support.notation_pieces import Call
from support.reading_model import Turn

KEY = "sk-clients-0123456789abcdef"
TIMEOUT = 240  # seconds, of one client
QUESTION = "Which word does the file in {folder} hold? List the folder and read the file."
NOWHERE = "http://127.0.0.1:9"  # the way to the rest of the world: nothing listens there
ROOT = Path(__file__).parents[2] / "build" / "clients"
NODE_MODULES = ROOT / "node_modules"
# For clients with short prompts, which would be mostly what a turn adds.
INSTRUCTIONS = Path(__file__).parents[2] / "docs" / "architecture.md"


@dataclasses.dataclass(frozen=True)
class Workspace:
    """A home, and a folder with one file in it, that no test has seen before.

    The folder is not in the project: some agents tell the names of all files there at once.
    """

    home: Path
    project: Path  # where the client is started
    folder: Path
    name: str  # a random word in the file's name
    word: str  # a random word in the file

    @classmethod
    def make(cls, root: Path) -> "Workspace":
        made = cls(root / "home", root / "project", root / "letters", _word(), _word())
        for folder in (made.home, made.project, made.folder):
            folder.mkdir(parents=True)
        made.file.write_text(f"The secret word is {made.word}.\n")
        return made

    @property
    def file(self) -> Path:
        return self.folder / f"note-{self.name}.txt"

    @property
    def question(self) -> str:
        return QUESTION.format(folder=self.folder)

    def turns(self, listing: Call, reading: Call, *telling: Call) -> list[Turn]:
        """What the model writes: two calls, and the answer, or the call that is the answer."""
        return [
            Turn("", "I list the folder first.\n", [listing]),
            Turn(self.name, "Now I read the file there.\n", [reading]),
            Turn(self.word, f"The file holds this word: {self.word}", telling),
        ]


@dataclasses.dataclass(frozen=True)
class Client:
    """How one client is told where the node is, and what it calls its tools.

    ``turns`` are the turns of its model. ``command`` is what runs in the project, with the
    variables of ``environment``; both get the base URL without a path. ``says`` is what it
    reads from its standard input. ``api`` is the path of its conversations. Without ``needs``
    it is not installed. ``is_replayed``: its requests mean something to another node.
    """

    name: str
    api: str
    turns: Callable[[Workspace], list[Turn]]
    command: Callable[[Workspace, str], Sequence[str | Path]]
    environment: Callable[[Workspace, str], Mapping[str, str]] = lambda *_: {}
    says: Callable[[Workspace], str] = lambda _: ""
    needs: Path = NODE_MODULES
    is_replayed: bool = True
    least_cached: float = 0.95  # of the tokens of a prompt, from the second turn on


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of a client."""

    output: str
    code: int | None  # None: it ran out of time
    exchanges: list[Exchange]


def run(client: Client, workspace: Workspace, recorder: Recorder) -> Run:
    """Run ``client`` until it ends by itself, or its time is over. All its processes end."""
    command = [str(part) for part in client.command(workspace, recorder.url)]
    environment = _surroundings(workspace) | client.environment(workspace, recorder.url)
    log, said = workspace.home / "output.log", workspace.home / "input.txt"
    said.write_text(client.says(workspace))
    with log.open("wb") as output, said.open("rb") as input:
        process = subprocess.Popen(
            command,
            cwd=workspace.project,
            env=environment,
            stdin=input,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process, workspace)
    return Run(log.read_text(errors="replace"), code, list(recorder.exchanges))


def _end(process: subprocess.Popen, workspace: Workspace) -> None:
    """End the session that ``process`` leads, and what has left it: Cline has a daemon."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if other.environ().get("HOME") == str(workspace.home):
                other.kill()


def _surroundings(workspace: Workspace) -> dict[str, str]:
    """A home of its own, no colours, no telemetry, and no way out but to the recorder."""
    node = next(NODE_MODULES.glob("node-*/bin/node"), None)
    folders = [str(node.parent)] if node else []
    return {
        "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        "HOME": str(workspace.home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "CI": "1",
        "DO_NOT_TRACK": "1",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
    }


def _word() -> str:
    """A word that no text has."""
    syllables = [random.choice("bdfgklmnprstvz") + random.choice("aeiou") for _ in range(5)]
    return f"q{''.join(syllables)}x"
