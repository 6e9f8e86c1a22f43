"""The agents as ``mlxnode launch`` starts them."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from clients.agents import BIN, CLAUDE_CODE, CLINE, CODEX, OPENCODE, QWEN_CODE
from clients.aider import AIDER, AIDER_CHAT, AIDER_OPTIONS, RUN
from clients.loop import KEY, NODE_MODULES, Client, Workspace


def _launched(
    client: Client, agent: str, arguments: Callable[[Workspace], Sequence[str]]
) -> Client:
    """``client`` without settings of its own: it gets those of ``mlxnode launch``."""
    name = f"launch-{agent}"

    def command(workspace: Workspace, url: str) -> list[str | Path]:
        launch = [sys.executable, "-m", "mlxnode", "launch", agent, "--model", name]
        return [*launch, "--url", url, "--api-key", KEY, "--", *arguments(workspace)]

    return replace(
        client,
        name=name,
        command=command,
        environment=lambda *_: {
            "PATH": _path(),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
        is_replayed=False,
    )


def _path() -> str:
    node = next(NODE_MODULES.glob("node-*/bin/node"), None)
    folders = [str(node.parent)] if node else []
    return os.pathsep.join([*folders, str(BIN), str(AIDER.parent), os.environ["PATH"]])


def _in_repository(client: Client) -> Client:
    """aider knows the files of a repository only."""

    def command(workspace: Workspace, url: str) -> list[str | Path]:
        return ["sh", "-c", RUN, "sh", *client.command(workspace, url)]

    environment = client.environment
    return replace(
        client,
        command=command,
        environment=lambda workspace, url: {
            **environment(workspace, url),
            "FOLDER": str(workspace.folder),
        },
    )


def _opencode(workspace: Workspace) -> list[str]:
    """The user's own settings hold as well: the folder is not in the project."""
    own = workspace.home / ".config" / "opencode" / "opencode.json"
    own.parent.mkdir(parents=True)
    own.write_text('{"permission": {"external_directory": "allow"}}')
    return ["run", workspace.question]


LAUNCHED = [
    _launched(
        CODEX,
        "codex",
        lambda workspace: [
            "exec",
            "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox",
            workspace.question,
        ],
    ),
    _launched(
        CLAUDE_CODE,
        "claude",
        lambda workspace: ["--print", "--allowed-tools=Bash,Read", "--", workspace.question],
    ),
    _launched(OPENCODE, "opencode", _opencode),
    _launched(QWEN_CODE, "qwen", lambda workspace: ["--yolo", workspace.question]),
    _launched(CLINE, "cline", lambda workspace: ["--auto-approve", "true", workspace.question]),
    _in_repository(_launched(AIDER_CHAT, "aider", lambda _: AIDER_OPTIONS)),
]
