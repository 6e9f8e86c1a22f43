"""The commands by name, imported when they are needed, and what their errors become."""

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from mlxnode import __version__
from mlxnode.cli.options import examples_section
from mlxnode.cli.output import print_error
from mlxnode.errors import NodeError

# Title -> name -> (module and attribute, what the command does). The text stands here as well
# so that `mlxnode --help` imports no command; a test compares it with the command's own.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Serve": {
        "serve": ("mlxnode.cli.serve:serve", "Serve models over HTTP."),
        "status": (
            "mlxnode.cli.status:status",
            "Show what the running node does, and its memory.",
        ),
        "engine": (
            "mlxnode.cli.engine:engine",
            "Be one rank of the engine of a node on another machine.",
        ),
        "reload": (
            "mlxnode.cli.reload:reload",
            "Let the running node read its configuration again.",
        ),
        "usage": (
            "mlxnode.cli.usage:usage",
            "Show the requests and tokens of each key, by day and model.",
        ),
        "init": (
            "mlxnode.cli.init:init",
            "Write a commented configuration with a fresh key, which only you can read.",
        ),
        "service": (
            "mlxnode.cli.service:service",
            "Run the node as a service, with launchd or systemd.",
        ),
    },
    "Use": {
        "run": (
            "mlxnode.cli.chat:run",
            "Run a model: answer PROMPT, or standard input, or chat.",
        ),
        "chat": ("mlxnode.cli.chat:chat", "Chat with a model in the terminal."),
        "embed": ("mlxnode.cli.embed:embed", "Print the embeddings of texts."),
        "launch": (
            "mlxnode.cli.launch:launch",
            "Start a coding agent with a model of the node.",
        ),
        "bench": (
            "mlxnode.cli.bench:bench",
            "Measure this node, beside mlx_lm.server or other servers.",
        ),
    },
    "Keys": {
        "key": (
            "mlxnode.cli.key:key",
            "Print a key of the configuration, to a terminal or a pipe.",
        ),
    },
    "Models": {
        "models": (
            "mlxnode.cli.models:models",
            "List the models, whether they are on disk, and whether they fit.",
        ),
        "pull": (
            "mlxnode.cli.pull:pull",
            "Fetch a model of the Hugging Face hub, or a demo model.",
        ),
        "rm": (
            "mlxnode.cli.rm:rm",
            "Remove a model that was fetched: an id, an alias, or an id of the hub.",
        ),
    },
    "Check": {
        "check": (
            "mlxnode.cli.check:check",
            "Check the configuration and the models without serving.",
        ),
        "doctor": (
            "mlxnode.cli.doctor:doctor",
            "Check this machine, its limits and the configuration.",
        ),
        "completion": (
            "mlxnode.cli.completion:completion",
            "Print a script that completes commands and options in a shell.",
        ),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

EXAMPLES = """\
mlxnode serve                         serve the models of config.toml, else those on the disk
mlxnode serve --config my.toml --address 0.0.0.0:8000
mlxnode serve ~/models/Qwen3-8B-4bit  this model only
mlxnode models                        what is there, and whether it fits
mlxnode check --deep && mlxnode serve
mlxnode status                        what the running node does, and the memory it uses
mlxnode reload                        after a change of the configuration or of the disk
mlxnode usage --by key                what each key has used in the last 30 days
mlxnode doctor                        does everything work on this machine?
"""
NOTES = """\
The configuration is looked for at --config, $MLXNODE_CONFIG, ./config.toml and
~/.config/mlxnode/config.toml. Keys may come from $MLXNODE_API_KEY.

Exit codes: 0 ended as asked, 1 cannot do it, 2 wrong command line or configuration, 130 ended
by ctrl-C, 141 nobody reads the output. With --json, standard output has one JSON document, also
for an error: {"error": "..."}.
"""


class LazyGroup(click.Group):
    """The group of all commands; a command is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with the nearest name for one that does not exist."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            nearest = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "see mlxnode --help"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section for each group of commands."""
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, then where the configuration is and what the exit codes mean."""
        examples_section(formatter, EXAMPLES)
        formatter.write(f"\n{NOTES}")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlxnode", message="%(prog)s %(version)s")
def group() -> None:
    """An OpenAI-compatible inference server for Apple silicon, through MLX."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    if "_MLXNODE_COMPLETE" in os.environ:  # a shell asks for completions
        return group.main(prog_name="mlxnode", standalone_mode=False)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _invoke(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # by ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left
        return 128 + signal.SIGPIPE


def _invoke(words: list[str]) -> int:
    as_json = "--json" in words[: words.index("--") if "--" in words else None]
    try:
        # Not click's main: it has exit codes of its own for interrupts and closed pipes.
        with group.make_context("mlxnode", list(words)) as context:
            result: Any = group.invoke(context)
            return result or 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        print_error(_one_line(error), as_json)
        return error.exit_code
    except NodeError as error:
        print_error(str(error), as_json)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130


def _one_line(error: click.ClickException) -> str:
    """What is wrong, without the full stop, and where to read more."""
    text = error.format_message().removesuffix(".")
    text = text[:1].lower() + text[1:] if text[1:2].islower() else text
    context = getattr(error, "ctx", None)
    if context is None or "mlxnode" not in context.command_path or "help" in text:
        return text
    return f"{text} (see {context.command_path} --help)"
