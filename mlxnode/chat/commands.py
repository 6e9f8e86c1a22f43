"""The commands of a chat: a line that begins with a slash."""

import difflib
import re
from collections.abc import Mapping
from typing import NamedTuple

# Name -> (its argument, what it does).
COMMANDS: Mapping[str, tuple[str, str]] = {
    "/system": ("[TEXT]", 'set the system message; "" removes it; without TEXT: show it'),
    "/set": ("[NAME VALUE]", "set a parameter, such as temperature 0.3; alone: show them"),
    "/unset": ("NAME", "leave a parameter to the model again"),
    "/model": ("[ID]", "go on with another model; without ID: list them"),
    "/retry": ("", "ask the last question again"),
    "/clear": ("", "begin anew; the system message stays"),
    "/save": ("FILE", "write the conversation to FILE.md or FILE.json; /save! replaces it"),
    "/load": ("FILE", "go on with a saved conversation"),
    "/reasoning": ("", "show all of the reasoning, or only its last lines"),
    "/verbose": ("", "show tokens/s and the time to the first token, or not"),
    "/help": ("", "show this list"),
    "/bye": ("", "leave, as ctrl-D does"),
}
_ALIASES = {"/exit": "/bye", "/quit": "/bye", "/?": "/help", "/regenerate": "/retry"}
_COMMAND = re.compile(r"(/[a-z?]+)(!?)(?:\s+(.*))?", re.S)
KEYS = """\
Enter sends. Alt-Enter, a backslash at the end of a line, and triple quotes (\"\"\") around the
message make a message of several lines. Ctrl-C stops an answer. A message that begins with a
slash: write it twice."""


class Command(NamedTuple):
    """A command of the user. ``is_forced``: an exclamation mark follows its name."""

    name: str
    argument: str
    is_forced: bool = False


class UnknownCommand(ValueError):
    """The message is for the user."""


def parse(message: str) -> Command | str:
    """The command that ``message`` is, else the text for the model.

    Raises:
        UnknownCommand: it looks like a command, and there is none of this name.
    """
    if message.startswith("//"):
        return message[1:]
    found = _COMMAND.fullmatch(message)
    if found is None:
        return message  # a path, for example
    name = _ALIASES.get(found[1], found[1])
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, [*COMMANDS, *_ALIASES], n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "/help lists the commands"
        raise UnknownCommand(f"there is no command {found[1]}; {hint}")
    return Command(name, (found[3] or "").strip(), bool(found[2]))


def help_text() -> str:
    """The commands and the keys."""
    names = [f"{name} {argument}".rstrip() for name, (argument, _) in COMMANDS.items()]
    width = max(map(len, names))
    texts = [text for _, text in COMMANDS.values()]
    lines = [f"  {name:<{width}}  {text}" for name, text in zip(names, texts, strict=True)]
    return "\n".join([*lines, "", KEYS])
