"""``mlxnode chat`` and ``mlxnode run``: talk to a model."""

import os
import stat
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlxnode.cli.fetching import fetch_missing
from mlxnode.cli.model_names import complete_model
from mlxnode.cli.node_options import ended_by_signals, node_options, waiting, wanted_node
from mlxnode.cli.options import command, json_option
from mlxnode.cli.output import emit, say

if TYPE_CHECKING:
    from mlxnode.chat.asking import View
    from mlxnode.chat.conversation import Conversation
    from mlxnode.client.connect import Connection

CHAT_EXAMPLES = """\
mlxnode chat
mlxnode chat smollm2-135m-instruct --system "Answer in French."
mlxnode chat --url http://mini.local:8080 --set temperature=0.3 --verbose
"""
RUN_EXAMPLES = """\
mlxnode run demo/smollm2-135m-instruct
mlxnode run smollm2-135m-instruct "Why is the sky blue?"
mlxnode run smollm2-135m-instruct "Summarize this text:" < notes.txt
git diff | mlxnode run my-chat-model "Write a commit message." --set max_tokens=200
mlxnode run smollm2-135m-instruct "Hello!" --json | jq -r .content
"""
Function = TypeVar("Function", bound=Callable[..., Any])


def _chat_options(function: Function) -> Function:
    """The options of both commands."""
    for option in (
        click.option("--verbose", is_flag=True, help="Show tokens/s after each answer."),
        click.option("--reasoning", is_flag=True, help="Show all of the reasoning."),
        click.option("--plain", is_flag=True, help="Show the text as the model writes it."),
        click.option("--no-history", is_flag=True, help="Keep nothing of what is typed."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="NAME=VALUE",
            help="A parameter, as temperature=0.3; can be repeated.",
        ),
        click.option("--system", metavar="TEXT", help="The system message."),
    ):
        function = option(function)
    return function


@command(CHAT_EXAMPLES)
@click.argument("model", required=False, shell_complete=complete_model)
@json_option
@_chat_options
@node_options
def chat(model: str | None, as_json: bool, **options: Any) -> int:
    """Chat with a model in the terminal.

    Without MODEL: one that is loaded, else the first. Where no node answers, one is started for
    as long as the chat lasts. /help lists the commands of the chat. What comes from a pipe or a
    file is one question.
    """
    return _talk(model, [], as_json, options)


@command(RUN_EXAMPLES)
@click.argument("model", shell_complete=complete_model)
@click.argument("prompt", nargs=-1)
@json_option
@_chat_options
@node_options
def run(model: str, prompt: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Run a model: answer PROMPT, or standard input, or chat.

    MODEL is an id of the node, a path, a repository of the hub ("org/name") or "demo/<id>".
    Where no node answers, one is started until the answer is complete.
    """
    return _talk(model, list(prompt), as_json, options)


def _talk(model: str | None, prompt: list[str], as_json: bool, options: dict[str, Any]) -> int:
    from mlxnode.chat.conversation import Conversation
    from mlxnode.chat.settings import parse_all
    from mlxnode.client.connect import Connection
    from mlxnode.client.text import encodable

    node = wanted_node(options)
    parameters = parse_all(list(options["assignments"]))
    question = encodable(_question(prompt))
    if not question and not (sys.stdin is not None and sys.stdin.isatty()):
        raise click.UsageError("standard input is empty, and there is no PROMPT")
    if not question and as_json:
        raise click.UsageError("--json needs a PROMPT")
    conversation = Conversation(encodable(options["system"] or ""))
    with ended_by_signals():
        fetch_missing(node, model)
        with waiting("looking for a node") as news:
            connection = Connection(node, model, ["chat"], news)
        with connection:
            if not question:
                _chat(connection, conversation, parameters, options)
                return 0
            conversation.ask(question)
            body = conversation.body(connection.model.id, parameters)
            _answer_once(connection, body, options, as_json=as_json)
    return 0


def _question(prompt: list[str]) -> str:
    """The prompt, and below it what comes from standard input."""
    return "\n\n".join(part for part in (" ".join(prompt), _standard_input()) if part.strip())


def _standard_input() -> str:
    """The text of standard input, if it is a file or a pipe."""
    if sys.stdin is None or stat.S_ISCHR(os.fstat(sys.stdin.fileno()).st_mode):
        return ""
    try:
        return sys.stdin.buffer.read().decode().strip("\n")
    except UnicodeDecodeError:
        raise click.UsageError("standard input is not UTF-8 text") from None


def _view(*, is_plain: bool, shows_reasoning: bool) -> "View":
    from mlxnode.chat.drawing import MarkdownView, PlainView
    from mlxnode.cli.terminal import console

    screen = console()
    if is_plain or not screen.is_terminal or screen.is_dumb_terminal:
        shown = shows_reasoning or (not is_plain and screen.is_terminal)
        return PlainView(sys.stdout, shows_reasoning=shown)
    return MarkdownView(screen, shows_reasoning=shows_reasoning)


def _answer_once(
    connection: "Connection", body: dict[str, Any], options: dict[str, Any], *, as_json: bool
) -> None:
    from mlxnode.chat.asking import ask, measured
    from mlxnode.client.answer import Answer

    answer = Answer()
    if as_json:
        for _ in connection.client.stream_chat(body, answer):
            pass
        emit(answer.as_document(), True, "")
    else:
        view = _view(is_plain=options["plain"], shows_reasoning=options["reasoning"])
        ask(connection.client, body, answer, view)
    if options["verbose"]:
        say(measured(answer))


def _chat(
    connection: "Connection",
    conversation: "Conversation",
    parameters: dict[str, Any],
    options: dict[str, Any],
) -> None:
    from mlxnode.chat.commands import COMMANDS
    from mlxnode.chat.reading import EditingReader, PlainReader
    from mlxnode.chat.session import Session
    from mlxnode.client.history import history_file

    if os.environ.get("TERM", "dumb") == "dumb" or not sys.stdout.isatty():
        reader = PlainReader()
    else:
        reader = EditingReader(None if options["no_history"] else history_file(), [*COMMANDS])
    session = Session(
        connection,
        reader,
        lambda is_shown: _view(is_plain=options["plain"], shows_reasoning=is_shown),
        say,
        conversation=conversation,
        parameters=parameters,
        is_verbose=options["verbose"],
        shows_reasoning=options["reasoning"],
    )
    session.run()
