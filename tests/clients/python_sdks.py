"""Agents of Python packages: scripts of a few lines, run in an environment of their own."""

from collections.abc import Callable
from pathlib import Path

from clients.loop import INSTRUCTIONS, KEY, ROOT, Client, Workspace
from support.notation_pieces import Call
from support.reading_model import Turn

SCRIPTS = Path(__file__).parent / "scripts"
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}


def folder_turns(workspace: Workspace) -> list[Turn]:
    return workspace.turns(
        ("list_folder", {"path": str(workspace.folder)}),
        ("read_file", {"path": str(workspace.file)}),
    )


def _instructor_turns(workspace: Workspace) -> list[Turn]:
    """The only tool is forced, so that no text comes before a call."""

    def step(*command: object) -> list[Call]:
        return [("Step", {"command": " ".join(map(str, command))})]

    return [
        Turn("", "", step("list", workspace.folder)),
        Turn(workspace.name, "", step("read", workspace.file)),
        Turn(workspace.word, "", step("answer", workspace.word)),
    ]


def _client(
    package: str,
    api: str,
    turns: Callable[[Workspace], list[Turn]] = folder_turns,
    environment: str = "agents",
) -> Client:
    name = f"{package}-{api}"
    return Client(
        name,
        PATHS[api],
        turns,
        lambda workspace, url: [
            ROOT / environment / "bin" / "python",
            SCRIPTS / f"{package.replace('-', '_')}_loop.py",
            url,
            name,
            workspace.folder,
            INSTRUCTIONS,
            api,
        ],
        lambda *_: {"NODE_KEY": KEY, "PYTHONDONTWRITEBYTECODE": "1"},
        needs=ROOT / environment,
    )


PYTHON_SDKS = [
    _client("openai-agents", "responses"),
    _client("openai-agents", "chat"),
    _client("pydantic-ai", "chat"),
    _client("pydantic-ai", "responses"),
    _client("pydantic-ai", "messages"),
    _client("langchain", "chat"),
    _client("langchain", "responses"),
    _client("langchain", "messages"),
    _client("instructor", "chat", _instructor_turns, "instructor"),
]
