"""``mlxnode launch``: a coding agent with a model of the node."""

import os
from pathlib import Path
from typing import Any

import click

from mlxnode.cli.model_names import complete_model
from mlxnode.cli.node_options import node_options, wanted_node
from mlxnode.cli.options import command, json_option
from mlxnode.cli.output import emit

EXAMPLES = """\
mlxnode launch codex
mlxnode launch claude --model my-chat-model
mlxnode launch opencode -- run "What does this project do?"
mlxnode launch qwen --url http://mini.local:8080 --api-key sk-...
mlxnode launch cline --print           show what is set, and start nothing
"""
NAMES = ("codex", "claude", "opencode", "qwen", "aider", "cline")  # a test compares them


@command(EXAMPLES)
@click.argument("agent", type=click.Choice(NAMES))
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENTS...]")
@click.option(
    "--model",
    metavar="ID",
    help="The model; default: one that is loaded.",
    shell_complete=complete_model,
)
@click.option(
    "--small-model",
    metavar="ID",
    help="For titles and summaries; default: the same model.",
    shell_complete=complete_model,
)
@click.option("--print", "only_prints", is_flag=True, help="Show what is set; start nothing.")
@click.option("--show-key", is_flag=True, help="With --print: show the key, too.")
@json_option
@node_options
def launch(
    agent: str,
    arguments: tuple[str, ...],
    model: str | None,
    small_model: str | None,
    only_prints: bool,
    show_key: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Start a coding agent with a model of the node.

    The agent gets environment variables, arguments and temporary files. No file of yours is
    written. ARGUMENTS are those of the agent. The exit code is that of the agent.
    """
    from mlxnode.client.choosing import choose
    from mlxnode.client.requests import Client
    from mlxnode.launch.agents import AGENTS, Target
    from mlxnode.launch.start import find_program, start

    if (as_json or show_key) and not only_prints:
        raise click.UsageError(f"{'--json' if as_json else '--show-key'} needs --print")
    chosen = AGENTS[agent]
    if not only_prints:
        find_program(chosen, os.environ)
    endpoint, _ = wanted_node(options).endpoint()
    with Client(endpoint) as client:
        models = client.models()
    found = choose(models, model, ["chat"])
    small = choose(models, small_model, ["chat"]) if small_model else found
    target = Target(
        endpoint.url,
        endpoint.key,
        found.id,
        small.id,
        found.context_length,
        endpoint.certificate,
    )
    if not only_prints:
        return start(chosen, target, arguments, os.environ)
    _print(agent, target, arguments, as_json, show_key)
    return 0


def _print(
    agent: str, target: Any, arguments: tuple[str, ...], as_json: bool, show_key: bool
) -> None:
    from dataclasses import replace

    from mlxnode.launch.agents import AGENTS
    from mlxnode.launch.snippet import snippet
    from mlxnode.launch.surroundings import complete

    chosen = AGENTS[agent]
    if target.key and not show_key:
        target = replace(target, key=masked(target.key))
    text = snippet(chosen, target, arguments, os.environ)
    if target.key and not show_key:
        text = f"# The key is hidden; --show-key shows it.\n{text}"
    plan = complete(chosen.plan(target, Path("$folder")), chosen, target, os.environ)
    value = {
        "agent": agent,
        "model": target.model,
        "environment": plan.environment,
        "unset": plan.unset,
        "arguments": [*plan.arguments, *arguments],
        "files": plan.files,
    }
    emit(value, as_json, text)


def masked(key: str) -> str:
    """Enough of a key to recognise it."""
    return f"{key[:3]}...{key[-4:]}" if len(key) >= 16 else "***"
