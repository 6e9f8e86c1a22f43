"""A chat in the terminal: reads messages, obeys commands, draws answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxnode.chat import commands, files, settings
from mlxnode.chat.asking import View, ask, measured
from mlxnode.chat.commands import Command, UnknownCommand
from mlxnode.chat.conversation import Conversation
from mlxnode.chat.reading import Reader
from mlxnode.client.answer import Answer
from mlxnode.client.connect import Connection
from mlxnode.client.text import encodable, printable
from mlxnode.errors import NodeError, RequestError

Say = Callable[[str], None]
MakeView = Callable[[bool], View]  # of whether all of the reasoning is shown


class Session:
    """One chat, until the user leaves.

    ``say`` tells the user what is no part of the conversation.
    """

    def __init__(
        self,
        connection: Connection,
        reader: Reader,
        make_view: MakeView,
        say: Say,
        *,
        conversation: Conversation | None = None,
        parameters: dict[str, Any] | None = None,
        is_verbose: bool = False,
        shows_reasoning: bool = False,
    ):
        self._connection = connection
        self._reader = reader
        self._make_view = make_view
        self._say = say
        self._conversation = conversation or Conversation()
        self._parameters = parameters or {}
        self._is_verbose = is_verbose
        self._shows_reasoning = shows_reasoning
        self._saved: Path | None = None
        self._unanswered: str | None = None  # a question that got no answer at all
        self._is_over = False

    def run(self) -> None:
        """Chat until the user leaves."""
        self._say(f"{self._connection.model.id}: /help lists the commands, ctrl-D leaves")
        is_warned = False
        while not self._is_over:
            try:
                message = self._reader.read()
            except EOFError:
                return
            except KeyboardInterrupt:
                if is_warned:
                    return
                is_warned = True
                self._say("ctrl-C once more, or ctrl-D, leaves")
                continue
            is_warned = False
            if message.strip():
                self._take(message)

    def _take(self, message: str) -> None:
        try:
            command = commands.parse(message)
            if isinstance(command, Command):
                _ACTIONS[command.name](self, command)
            else:
                self._ask(command)
        except (NodeError, UnknownCommand) as error:
            self._say(f"mlxnode: {error}")

    def _ask(self, text: str) -> None:
        """Ask, and keep what came of the answer; without an answer, the question goes, too."""
        self._connection.revive(self._say)
        self._unanswered = None
        self._conversation.ask(encodable(text))
        body = self._conversation.body(self._connection.model.id, self._parameters)
        answer, is_stopped = Answer(), False
        try:
            ask(self._connection.client, body, answer, self._make_view(self._shows_reasoning))
        except KeyboardInterrupt:
            is_stopped = answer.finish_reason is None
            if is_stopped:
                self._say("stopped")
        except RequestError as error:
            is_stopped = True
            self._say(f"mlxnode: {error}{_hint(error)}")
        if answer.content or not is_stopped:
            self._conversation.answer(answer.content, is_stopped=is_stopped)
        else:
            self._unanswered = self._conversation.take_back()
        if answer.finish_reason == "length":
            self._say("the answer ends here: it has reached max_tokens, or the context is full")
        if self._is_verbose and answer.first_token is not None:
            self._say(measured(answer))

    def _system(self, command: Command) -> None:
        if not command.argument:
            self._say(printable(self._conversation.system) or "there is no system message")
            return
        text = "" if command.argument == '""' else encodable(command.argument)
        self._conversation.system = text
        self._say("the system message is set" if text else "there is no system message now")

    def _set(self, command: Command) -> None:
        name, _, value = command.argument.partition(" ")
        if value:
            self._parameters[name] = settings.parse(name, value.strip())
            self._say(f"{name} = {self._parameters[name]}")
        elif name and name not in settings.NAMES:
            settings.parse(name, "")
        else:
            shown = [name] if name else settings.NAMES
            lines = (
                f"{name} = {self._parameters.get(name, 'as the model has it')}"
                for name in shown
            )
            self._say("\n".join(lines))

    def _unset(self, command: Command) -> None:
        if self._parameters.pop(command.argument, None) is None:
            self._say(f"{command.argument or 'nothing'} is not set")

    def _model(self, command: Command) -> None:
        if command.argument:
            self._say(f"now with {self._connection.choose(command.argument).id}")
            return
        for model in self._connection.client.models():
            if model.type == "chat":
                mark = "*" if model.id == self._connection.model.id else " "
                self._say(f"{mark} {model.id}")

    def _retry(self, _: Command) -> None:
        question = self._unanswered or self._conversation.take_back()
        if question is None:
            self._say("there is no question yet")
        else:
            self._ask(question)

    def _clear(self, _: Command) -> None:
        self._conversation.clear()
        self._say("the conversation is empty")

    def _save(self, command: Command) -> None:
        path = _path(command)
        may_replace = command.is_forced or path == self._saved
        model = self._connection.model.id
        files.save(self._conversation, model, path, may_replace=may_replace)
        self._saved = path
        self._say(f"{len(self._conversation.messages)} messages are in {path}")

    def _load(self, command: Command) -> None:
        path = _path(command)
        self._conversation = files.load(path)
        self._saved = path
        self._say(f"{len(self._conversation.messages)} messages from {path}")

    def _toggle_reasoning(self, _: Command) -> None:
        self._shows_reasoning = not self._shows_reasoning
        self._say("all of the reasoning" if self._shows_reasoning else "reasoning is folded")

    def _toggle_verbose(self, _: Command) -> None:
        self._is_verbose = not self._is_verbose
        self._say("with figures" if self._is_verbose else "without figures")

    def _help(self, _: Command) -> None:
        self._say(commands.help_text())

    def _bye(self, _: Command) -> None:
        self._is_over = True


_ACTIONS: dict[str, Callable[[Session, Command], None]] = {
    "/system": Session._system,
    "/set": Session._set,
    "/unset": Session._unset,
    "/model": Session._model,
    "/retry": Session._retry,
    "/clear": Session._clear,
    "/save": Session._save,
    "/load": Session._load,
    "/reasoning": Session._toggle_reasoning,
    "/verbose": Session._toggle_verbose,
    "/help": Session._help,
    "/bye": Session._bye,
}


def _path(command: Command) -> Path:
    if not command.argument:
        raise files.FileError(f"{command.name} needs the name of a file, as chat.md")
    try:
        return Path(command.argument).expanduser().absolute()
    except RuntimeError as error:  # the home folder of nobody
        raise files.FileError(f"{command.argument}: {error}") from error


def _hint(error: RequestError) -> str:
    if error.status == 400 and "context" in str(error):
        return " (/clear begins anew)"
    return ""
