"""What an agent would be started with, as a script for a shell."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlxnode.launch.agents import Agent, Target
from mlxnode.launch.surroundings import complete

_MARK = "/mlxnode-launch-folder"
_END = "END_OF_FILE"


def snippet(
    agent: Agent, target: Target, arguments: Sequence[str], environ: Mapping[str, str]
) -> str:
    """Commands that set all that ``start`` would set, and start the agent.

    Without ``arguments``, the agent gets those of the script.
    The files are in a new folder, which the last command removes.
    """
    plan = complete(agent.plan(target, Path(_MARK)), agent, target, environ)
    lines = [f"unset {name}" for name in plan.unset]
    if plan.files:
        lines.append("folder=$(mktemp -d)")
    for name, content in plan.files.items():
        lines.append(f"cat > {_quoted(f'{_MARK}/{name}')} <<'{_END}'\n{content}{_END}")
    lines += [f"export {name}={_quoted(value)}" for name, value in plan.environment.items()]
    own = [shlex.quote(argument) for argument in arguments] or ['"$@"']
    lines.append(" ".join([agent.name, *map(_quoted, plan.arguments), *own]))
    if plan.files:
        lines.append('rm -r "$folder"')
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """For the shell, with the folder in place of its mark."""
    parts = text.split(_MARK)
    return '"$folder"'.join(shlex.quote(part) if part else "" for part in parts) or "''"
