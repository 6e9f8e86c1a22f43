"""What the user types: lines with editing and a history, several lines as one message."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_QUOTES = '"""'
_PROMPT, _MORE = ">>> ", "... "
_OPENING = re.compile(rf"(/\w+!?\s+)?{_QUOTES}")


class Reader(Protocol):
    """Reads one message after the other."""

    def read(self) -> str:
        """The next message, which may have several lines.

        Raises:
            EOFError: the user leaves.
            KeyboardInterrupt: the user gives up this message.
        """
        ...


def is_open(text: str) -> bool:
    """True if a message goes on in the next line, because its triple quotes are not closed."""
    opening = _OPENING.match(text.lstrip())
    return opening is not None and text.count(_QUOTES) % 2 == 1


def unquoted(text: str) -> str:
    """The message without its triple quotes."""
    text = text.strip()
    opening = _OPENING.match(text)
    if opening is None or not text.endswith(_QUOTES) or text.count(_QUOTES) < 2:
        return text
    inner = text[opening.end() : -len(_QUOTES)].strip("\n")
    return f"{opening[1] or ''}{inner}"


class PlainReader:
    """Reads lines where the terminal cannot edit them."""

    def read(self) -> str:
        """As ``Reader.read``."""
        text = ""
        while True:
            print(_MORE if text else _PROMPT, end="", flush=True)
            line = sys.stdin.readline()
            if not line:
                print()
                raise EOFError
            text += line.removesuffix("\n").removesuffix("\r")
            if text.endswith("\\") and not is_open(text):
                text = f"{text[:-1]}\n"
            elif is_open(text):
                text += "\n"
            else:
                return unquoted(text)


class EditingReader:
    """Reads with the keys of Emacs, and the history of earlier chats.

    Enter sends the message, if its triple quotes are closed and it does not end with a
    backslash; alt-Enter begins a new line. Pasted lines are one message. ``history`` is a file
    for the owner alone; None: nothing is kept. ``commands`` are completed by the tab key.
    """

    def __init__(self, history: Path | None, commands: Sequence[str]):
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        if history is not None and not _is_writable(history):
            history = None
        self._session: PromptSession[str] = PromptSession(
            _PROMPT,
            history=InMemoryHistory() if history is None else FileHistory(str(history)),
            multiline=True,
            prompt_continuation=_MORE,
            key_bindings=_keys(),
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            enable_history_search=False,
        )

    def read(self) -> str:
        """As ``Reader.read``."""
        return unquoted(self._session.prompt())


def _keys():
    """The bindings of Enter."""
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        before = buffer.document.text_before_cursor
        if is_open(buffer.text):
            buffer.insert_text("\n")
        elif buffer.document.is_cursor_at_the_end and before.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _is_writable(file: Path) -> bool:
    """Make the history, for its owner alone; True if that worked."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(file, "a", opener=_for_owner):
            file.chmod(0o600)
    except OSError:
        return False
    return True


def _for_owner(path: str, flags: int) -> int:
    import os

    return os.open(path, flags, 0o600)
