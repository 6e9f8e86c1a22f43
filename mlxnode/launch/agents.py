"""The agents, and how each one is told where the node is. docs/clients.md has them, too."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NO_KEY = "mlxnode"  # for agents that insist on a key, where the node requires none
_OUTPUT = 32_000  # tokens of an answer, where an agent has to know a limit


@dataclass(frozen=True)
class Target:
    """A model of a node. ``url`` is without ``/v1``; ``context`` is in tokens.

    ``small_model`` is for titles, summaries and the like. ``certificate`` is the node's own,
    which the agent has to trust.
    """

    url: str
    key: str | None
    model: str
    small_model: str
    context: int | None
    certificate: Path | None = None

    @property
    def api(self) -> str:
        return f"{self.url}/v1"

    @property
    def secret(self) -> str:
        return self.key or _NO_KEY


@dataclass(frozen=True)
class Plan:
    """What an agent is started with.

    ``unset`` are variables that would lead it elsewhere. ``files`` are those of the temporary
    folder, by name.
    """

    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Agent:
    """An agent. ``plan`` gets the path of the temporary folder, which need not exist yet."""

    name: str
    title: str
    install: str
    plan: Callable[[Target, Path], Plan]
    is_node: bool = True  # it runs in Node, which has a variable for certificates


def _codex(target: Target, _: Path) -> Plan:
    settings: dict[str, Any] = {
        "model": target.model,
        "model_provider": "mlxnode",
        "model_providers.mlxnode.name": "mlxnode",
        "model_providers.mlxnode.base_url": target.api,
        "model_providers.mlxnode.env_key": "MLXNODE_API_KEY",
        "model_providers.mlxnode.wire_api": "responses",
    }
    if target.context is not None:
        settings["model_context_window"] = target.context
    # The values are TOML, in which a JSON string or number is one.
    pairs = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    arguments = [argument for pair in pairs for argument in ("-c", pair)]
    return Plan(arguments, {"MLXNODE_API_KEY": target.secret})


def _claude(target: Target, _: Path) -> Plan:
    environment = {
        "ANTHROPIC_BASE_URL": target.url,
        # A key in ANTHROPIC_API_KEY has to be approved, and that is kept in the user's file.
        "ANTHROPIC_AUTH_TOKEN": target.secret,
        "ANTHROPIC_MODEL": target.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": target.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": target.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": target.small_model,
        "ANTHROPIC_SMALL_FAST_MODEL": target.small_model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    if target.context is not None:
        environment["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(target.context)
        environment["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] = str(target.context)
    others = ("API_KEY", "CUSTOM_HEADERS")
    clouds = ("OAUTH_TOKEN", "USE_BEDROCK", "USE_VERTEX", "USE_FOUNDRY")
    unset = [f"ANTHROPIC_{name}" for name in others] + [f"CLAUDE_CODE_{n}" for n in clouds]
    return Plan([], environment, tuple(unset))


def _opencode(target: Target, _: Path) -> Plan:
    models = {id: _opencode_model(target, id) for id in (target.model, target.small_model)}
    config = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            "mlxnode": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "mlxnode",
                "options": {"baseURL": target.api, "apiKey": target.secret},
                "models": models,
            }
        },
        "model": f"mlxnode/{target.model}",
        "small_model": f"mlxnode/{target.small_model}",
    }
    return Plan([], {"OPENCODE_CONFIG_CONTENT": json.dumps(config)})


def _opencode_model(target: Target, id: str) -> dict[str, Any]:
    if target.context is None:
        return {"name": id}
    output = min(_OUTPUT, max(target.context // 4, 1))
    return {"name": id, "limit": {"context": target.context, "output": output}}


def _qwen(target: Target, folder: Path) -> Plan:
    arguments = ["--auth-type", "openai", "--openai-base-url", target.api]
    arguments += ["--model", target.model]
    environment = {
        "OPENAI_BASE_URL": target.api,
        "OPENAI_API_KEY": target.secret,
        "OPENAI_MODEL": target.model,
    }
    if target.context is None:
        return Plan(arguments, environment)
    # The defaults, which the settings of the user override.
    environment["QWEN_CODE_SYSTEM_DEFAULTS_PATH"] = str(folder / "qwen.json")
    settings = {"model": {"generationConfig": {"contextWindowSize": target.context}}}
    return Plan(arguments, environment, files={"qwen.json": _document(settings)})


def _aider(target: Target, folder: Path) -> Plan:
    model, small = f"openai/{target.model}", f"openai/{target.small_model}"
    arguments = ["--model", model, "--weak-model", small, "--openai-api-base", target.api]
    # aider's own variable wins over an OPENAI_API_KEY in a .env file.
    environment = {"AIDER_OPENAI_API_KEY": target.secret, "OPENAI_API_KEY": target.secret}
    if target.context is None:
        return Plan(arguments, environment)
    facts = {
        "max_input_tokens": target.context,
        "max_output_tokens": min(_OUTPUT, target.context),
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    arguments += ["--model-metadata-file", str(folder / "aider.json")]
    files = {"aider.json": _document({model: facts, small: facts})}
    return Plan(arguments, environment, files=files)


def _cline(target: Target, folder: Path) -> Plan:
    provider = "openai-compatible"
    settings: dict[str, Any] = {
        "provider": provider,
        "apiKey": target.secret,
        "model": target.model,
        "baseUrl": target.api,
    }
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
    return Plan(
        ["--provider", provider, "--model", target.model],
        {"CLINE_PROVIDER_SETTINGS_PATH": str(folder / "providers.json")},
        files={"providers.json": _document(known)},
    )


def _document(value: Mapping[str, Any]) -> str:
    return f"{json.dumps(value, indent=2)}\n"


AGENTS = {
    agent.name: agent
    for agent in (
        Agent("codex", "Codex", "npm install -g @openai/codex", _codex, is_node=False),
        Agent("claude", "Claude Code", "npm install -g @anthropic-ai/claude-code", _claude),
        Agent("opencode", "opencode", "npm install -g opencode-ai", _opencode),
        Agent("qwen", "Qwen Code", "npm install -g @qwen-code/qwen-code", _qwen),
        Agent("aider", "aider", "uv tool install aider-chat", _aider, is_node=False),
        Agent("cline", "Cline", "npm install -g cline", _cline),
    )
}
