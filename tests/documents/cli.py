"""docs/cli.md: the commands, from the help that click makes of them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
from documents.markdown import ROOT

from mlxnode.cli.group import NOTES, SECTIONS, group

DOCUMENT = ROOT / "docs" / "cli.md"
# Exit codes that mean more than those of all commands.
CODES = {
    "serve": "128 + the signal: ended at once by a second signal",
    "reload": "2: the configuration is wrong, and nothing has changed",
    "launch": "that of the agent",
    "service status": "1: the service does not run",
    "check": "1: a model cannot be served",
    "doctor": "1: a check failed",
}
_HEAD = Path(__file__).with_name("heads") / "cli.md"
_CODE = re.compile(r"(\d+) ((?:[^,.]|\.(?! ))+)")
_SEPARATORS = {"|", "&&", "||", ";"}
_REDIRECTIONS = {"<", ">", ">>"}


def text() -> str:
    """The whole document."""
    parts = [_HEAD.read_text(encoding="utf-8"), _index(), _exit_codes()]
    for name, context in commands():
        parts += _section(name, context)
    return "".join(parts)


def commands() -> Iterator[tuple[str, click.Context]]:
    """The commands with their contexts; those of a group after the group."""
    with click.Context(group, info_name="mlxnode") as root:
        for name in group.list_commands(root):
            yield from _with_own(group, name, root)


def words_of(line: str) -> Iterator[list[str]]:
    """The arguments of each call of mlxnode in a line of the shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if word in _SEPARATORS:
            if words and words[0] == "mlxnode":
                yield words[1:]
            words = []
        elif skip or word in _REDIRECTIONS:
            skip = not skip
        elif words or "=" not in word:  # variables of the command come before it
            words.append(word)


def check_call(words: list[str]) -> None:
    """Parse the arguments of mlxnode as the command does, and do nothing.

    Raises:
        click.ClickException: there is no such command, or it does not take these.
    """
    command: click.Command = group
    context = click.Context(group, info_name="mlxnode")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=context)
    command.make_context(command.name, list(words), parent=context)


def _with_own(
    parent: click.Group, name: str, context: click.Context
) -> Iterator[tuple[str, click.Context]]:
    command = parent.get_command(context, name)
    assert command is not None
    own = click.Context(command, info_name=name, parent=context)
    yield own.command_path, own
    if isinstance(command, click.Group):
        for inner in command.list_commands(own):
            yield from _with_own(command, inner, own)


def _index() -> str:
    rows = [
        f"| {title} | [`mlxnode {name}`](#mlxnode-{name}) | {_escaped(about)} |\n"
        for title, section in SECTIONS.items()
        for name, (_, about) in section.items()
    ]
    return "| | command | |\n|---|---|---|\n" + "".join(rows)


def _exit_codes() -> str:
    said = " ".join(NOTES.partition("Exit codes:")[2].partition(". ")[0].split())
    rows = [f"| {code} | {about} |\n" for code, about in _CODE.findall(said)]
    return "\n## Exit codes\n\n| code | |\n|---|---|\n" + "".join(rows)


def _section(name: str, context: click.Context) -> Iterator[str]:
    command = context.command
    level = "#" * name.count(" ") + "#"
    yield f"\n{level} {name}\n"
    for paragraph in (command.help or "").split("\n\n"):
        yield f"\n{_escaped(' '.join(paragraph.split()))}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\n`{name} {usage}`\n"
    if isinstance(command, click.Group):
        return
    records = [
        found
        for param in command.get_params(context)
        if isinstance(param, click.Option)
        and (found := param.get_help_record(context))
        and "--help" not in param.opts
    ]
    if records:
        yield "\n| option | |\n|---|---|\n"
    for option, about in records:
        shown = option.replace("|", "\\|")
        yield f"| `{shown}` | {_escaped(about)} |\n"
    if code := CODES.get(name.removeprefix("mlxnode ")):
        yield f"\nExit code {code}.\n"
    yield f"\n<!-- run: parsed -->\n```sh\n{_examples(command)}```\n"


def _examples(command: click.Command) -> str:
    """The examples of the help; what stands beside a command becomes a comment."""
    rows = [
        re.split(r"\s{3,}", line, maxsplit=1)
        for line in getattr(command, "examples", "").strip().splitlines()
    ]
    width = max((len(row[0]) for row in rows if len(row) == 2), default=0)
    return "".join(
        f"{row[0]:<{width}}   # {row[1]}\n" if len(row) == 2 else f"{row[0]}\n" for row in rows
    )


def _escaped(text: str) -> str:
    """``text`` in a cell: nothing in it is a tag or ends the cell."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = [
        part if part.startswith("`") else re.sub(r"([<*])", r"\\\1", part) for part in parts
    ]
    return "".join(plain).replace("|", "\\|")
