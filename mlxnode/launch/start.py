"""Starts an agent, with its files in a temporary folder that goes when it ends."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from mlxnode.errors import NodeError
from mlxnode.launch.agents import Agent, Plan, Target
from mlxnode.launch.surroundings import complete

_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


class LaunchError(NodeError):
    """An agent cannot be started."""


def find_program(agent: Agent, environ: Mapping[str, str]) -> str:
    """The path of the agent's program.

    Raises:
        LaunchError: it is not installed.
    """
    found = shutil.which(agent.name, path=environ.get("PATH"))
    if found is None:
        raise LaunchError(
            f"{agent.title} is not installed: there is no {agent.name} in $PATH; install it "
            f"with `{agent.install}`"
        )
    return found


def start(
    agent: Agent, target: Target, arguments: Sequence[str], environ: Mapping[str, str]
) -> int:
    """Run the agent with its user's ``arguments``; returns its exit code.

    An agent without files takes the place of this process.

    Raises:
        LaunchError: it is not installed, or cannot be run.
    """
    program = find_program(agent, environ)
    with tempfile.TemporaryDirectory(prefix="mlxnode-launch-") as name:
        folder = Path(name)
        plan = complete(agent.plan(target, folder), agent, target, environ)
        if plan.files:
            for file, content in plan.files.items():
                _write(folder / file, content)
            return _run(program, plan, arguments, environ)
    try:
        command = [program, *plan.arguments, *arguments]
        os.execve(program, command, _environment(plan, environ))
    except OSError as error:
        raise LaunchError(f"{program} cannot be run: {error.strerror}") from error


def _environment(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in plan.unset}
    return kept | plan.environment


def _write(file: Path, content: str) -> None:
    """For this user alone: the folder is, and the file may hold a key."""
    with open(file, "w", encoding="utf-8", opener=_private) as opened:
        opened.write(content)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _run(program: str, plan: Plan, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run and wait. The terminal sends its signals to the agent as well; others are sent on."""
    command = [program, *plan.arguments, *arguments]
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    # Not ignored, which the agent would inherit.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    before[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, lambda *_: None)
    try:
        child = subprocess.Popen(command, env=_environment(plan, environ))
        for number in early:
            child.send_signal(number)
        code = child.wait()
    except OSError as error:
        raise LaunchError(f"{program} cannot be run: {error.strerror}") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
