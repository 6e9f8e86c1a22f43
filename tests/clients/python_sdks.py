"""Agents of Python packages: scripts of a few lines, run in an environment of their own."""

from pathlib import Path

from clients.loop import ROOT, Client, Workspace
from support.notation_pieces import Call
from support.reading_model import Turn

SCRIPTS = Path(__file__).parent / "scripts"
PYTHON = ROOT / "venv" / "bin" / "python"
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


def _client(script: str, api: str, turns=folder_turns) -> Client:
    name = f"{script.split('_')[0]}-{api}"
    return Client(
        name,
        PATHS[api],
        turns,
        lambda workspace, url: [
            PYTHON,
            SCRIPTS / f"{script}.py",
            url,
            name,
            workspace.folder,
            api,
        ],
        lambda *_: {"PYTHONDONTWRITEBYTECODE": "1", "LANGSMITH_TRACING": "false"},
    )


PYTHON_SDKS = [
    _client("openai_agents", "responses"),
    _client("openai_agents", "chat"),
    _client("pydantic_agent", "chat"),
    _client("pydantic_agent", "responses"),
    _client("pydantic_agent", "messages"),
    _client("langchain_agent", "chat"),
    _client("langchain_agent", "responses"),
    _client("langchain_agent", "messages"),
    _client("instructor_loop", "chat", _instructor_turns),
]
CLIENTS = PYTHON_SDKS
