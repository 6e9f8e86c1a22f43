"""The agents, binaries that come from npm."""

import json
from pathlib import Path

from clients.loop import INSTRUCTIONS, KEY, NODE_MODULES, Client, Workspace
from clients.settings import settings, variables
from support.reading_model import Turn

BIN = NODE_MODULES / ".bin"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# Nobody is there to be asked, and nothing is called but the node.
_CODEX_ALONE = """
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
"""
_CODEX_QUIET = "[analytics]\nenabled = false\n"


def _codex_turns(workspace: Workspace) -> list[Turn]:
    def shell(command: str):
        return "exec_command", {"cmd": command}

    listing, reading = f"ls {workspace.folder}", f"cat {workspace.file}"
    return workspace.turns(shell(listing), shell(reading))


def _codex(workspace: Workspace, url: str) -> list[str | Path]:
    own = settings("codex", "toml", url, "codex")
    _write(workspace.home / ".codex" / "config.toml", f"{_CODEX_ALONE}\n{own}\n{_CODEX_QUIET}")
    return [BIN / "codex", "exec", "--skip-git-repo-check", workspace.question]


CODEX = Client(
    "codex",
    "/v1/responses",
    _codex_turns,
    _codex,
    lambda *_: {"MLXNODE_API_KEY": KEY},
)


def _claude_turns(workspace: Workspace) -> list[Turn]:
    return workspace.turns(
        ("Bash", {"command": f"ls {workspace.folder}"}),
        ("Read", {"file_path": str(workspace.file)}),
    )


CLAUDE_CODE = Client(
    "claude-code",
    "/v1/messages",
    _claude_turns,
    lambda workspace, _: [
        BIN / "claude",
        "--print",
        "--allowed-tools=Bash,Read",
        "--",
        workspace.question,
    ],
    lambda _, url: (
        variables("claude-code", url, "claude-code")
        | {
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
        }
    ),
)


def _opencode_turns(workspace: Workspace) -> list[Turn]:
    return workspace.turns(
        ("bash", {"command": f"ls {workspace.folder}", "description": "Lists the folder"}),
        ("read", {"filePath": str(workspace.file)}),
    )


def _opencode(workspace: Workspace, url: str) -> list[str | Path]:
    own = json.loads(settings("opencode", "json", url, "opencode"))
    config = own | {
        "autoupdate": False,
        "share": "disabled",
        "permission": {"external_directory": "allow"},
    }
    _write(workspace.home / ".config" / "opencode" / "opencode.json", json.dumps(config))
    return [BIN / "opencode", "run", workspace.question]


OPENCODE = Client(
    "opencode",
    "/v1/chat/completions",
    _opencode_turns,
    _opencode,
    lambda *_: {
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    },
)


def _qwen_turns(workspace: Workspace) -> list[Turn]:
    return workspace.turns(
        (
            "run_shell_command",
            {"command": f"ls {workspace.folder}", "is_background": False},
        ),
        ("read_file", {"file_path": str(workspace.file)}),
    )


def _qwen(workspace: Workspace, url: str) -> list[str | Path]:
    settings = {
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
        "security": {"auth": {"selectedType": "openai"}},
    }
    _write(workspace.home / ".qwen" / "settings.json", json.dumps(settings))
    return [BIN / "qwen", "--yolo", "--auth-type", "openai", workspace.question]


QWEN_CODE = Client(
    "qwen-code",
    "/v1/chat/completions",
    _qwen_turns,
    _qwen,
    lambda _, url: variables("qwen-code", url, "qwen-code"),
)


def _cline_turns(workspace: Workspace) -> list[Turn]:
    return workspace.turns(
        ("run_commands", {"commands": [f"ls {workspace.folder}"]}),
        ("read_files", {"files": [{"path": str(workspace.file)}]}),
    )


def _cline(workspace: Workspace, url: str) -> list[str | Path]:
    provider = "openai-compatible"
    settings = {"provider": provider, "apiKey": KEY, "model": "cline", "baseUrl": f"{url}/v1"}
    known = {
        "version": 1,
        "lastUsedProvider": provider,
        "modes": {},
        "providers": {
            provider: {
                "settings": settings,
                "updatedAt": "2026-01-01T00:00:00.000Z",
                "tokenSource": "manual",
            }
        },
    }
    _write(workspace.home / ".cline/data/settings/providers.json", json.dumps(known))
    return [BIN / "cline", "--auto-approve", "true", workspace.question]


CLINE = Client("cline", "/v1/chat/completions", _cline_turns, _cline)


def _continue_turns(workspace: Workspace) -> list[Turn]:
    return workspace.turns(
        ("List", {"dirpath": str(workspace.folder)}),
        ("Read", {"filepath": str(workspace.file)}),
    )


def _continue(workspace: Workspace, url: str) -> list[str | Path]:
    config = workspace.home / "continue.yaml"
    _write(config, settings("continue", "yaml", url, "continue"))
    options = ["--config", config, "--rule", INSTRUCTIONS, "--auto", "--print"]
    return [BIN / "cn", *options, workspace.question]


CONTINUE = Client(
    "continue",
    "/v1/chat/completions",
    _continue_turns,
    _continue,
    lambda *_: {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_AUTO_UPDATED": "1"},
)

AGENTS = [CODEX, CLAUDE_CODE, OPENCODE, QWEN_CODE, CLINE, CONTINUE]
