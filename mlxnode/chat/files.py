"""Conversations in files: Markdown to read, JSON for programs; both can be loaded again."""

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, get_args

import msgspec

from mlxnode.chat.conversation import Conversation, Message, Role
from mlxnode.errors import NodeError

_TITLES = {"system": "System", "user": "User", "assistant": "Assistant"}
# A mark before each message. In a message, such a line gets a backslash.
_MARK = re.compile(r"^<!-- mlxnode (system|user|assistant)( stopped)? -->\n\n## \w+\n\n", re.M)
_LOOKS_MARKED = re.compile(r"^(\\*)<!-- mlxnode ", re.M)
_ESCAPED = re.compile(r"^\\(\\*<!-- mlxnode )", re.M)
_MOST = 64 * 2**20  # bytes of a file
_END = "\n\n"


class FileError(NodeError):
    """A conversation cannot be saved or loaded."""


def save(conversation: Conversation, model: str, path: Path, *, may_replace: bool) -> None:
    """Write the conversation to ``path``, as its suffix says: .md or .json.

    Raises:
        FileError: the suffix is another, the file exists, or it cannot be written.
    """
    if path.suffix == ".json":
        content = _as_json(conversation, model)
    elif path.suffix == ".md":
        content = _as_markdown(conversation)
    else:
        raise FileError(f"{path}: expected a name that ends with .md or .json")
    try:
        _write(path, content, may_replace=may_replace)
    except FileExistsError:
        raise FileError(f"{path} exists; /save! replaces it") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error


def load(path: Path) -> Conversation:
    """The conversation in a file that ``save`` has written, or in a list of messages as JSON.

    Raises:
        FileError: the file cannot be read, or holds something else than texts.
    """
    try:
        if path.stat().st_size > _MOST:
            raise FileError(f"{path}: too large for a conversation")
        text = path.read_bytes().decode()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: cannot be read: it is not UTF-8 text") from error
    try:
        return _of_json(text) if path.suffix == ".json" else _of_markdown(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: {error}") from error


def _write(path: Path, content: str, *, may_replace: bool) -> None:
    """In one step: a full disk leaves the file as it was."""
    if path.exists() and not may_replace:
        raise FileExistsError(path)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(content)
        Path(scratch).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise


def _as_json(conversation: Conversation, model: str) -> str:
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    for message in conversation.messages:
        stopped = {"is_stopped": True} if message.is_stopped else {}
        messages.append({"role": message.role, "content": message.content, **stopped})
    document = {"model": model, "messages": messages}
    return f"{msgspec.json.format(msgspec.json.encode(document)).decode()}\n"


def _as_markdown(conversation: Conversation) -> str:
    messages = list(conversation.messages)
    if conversation.system:
        messages.insert(0, Message("system", conversation.system))
    parts = []
    for message in messages:
        stopped = " stopped" if message.is_stopped else ""
        content = _LOOKS_MARKED.sub(r"\\\g<0>", message.content)
        parts.append(
            f"<!-- mlxnode {message.role}{stopped} -->\n\n## {_TITLES[message.role]}\n\n"
            f"{content}{_END}"
        )
    return "".join(parts)


def _of_markdown(text: str) -> Conversation:
    text = text.replace("\r\n", "\n")
    found = list(_MARK.finditer(text))
    if not found or text[: found[0].start()].strip():
        raise ValueError("no conversation that /save has written")
    ends = [mark.start() for mark in found[1:]] + [len(text)]
    messages = []
    for mark, end in zip(found, ends, strict=True):
        content = text[mark.end() : end].removesuffix(_END)
        content = _ESCAPED.sub(r"\1", content)
        messages.append(Message(_role(mark[1]), content, mark[2] is not None))
    return _conversation(messages)


def _of_json(text: str) -> Conversation:
    document = msgspec.json.decode(text)
    rows = document.get("messages") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise ValueError('expected {"messages": [...]}')
    return _conversation([_message(row, f"messages[{i}]") for i, row in enumerate(rows)])


def _message(row: Any, where: str) -> Message:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object")
    role, content = str(row.get("role")), row.get("content")
    if role == "developer":
        role = "system"
    if role not in get_args(Role):
        raise ValueError(f"{where}.role: expected system, user or assistant, got {role!r}")
    if isinstance(content, list):
        content = "".join(_text_of(part, f"{where}.content") for part in content)
    if not isinstance(content, str):
        raise ValueError(f"{where}.content: expected a text")
    return Message(_role(role), content, row.get("is_stopped") is True)


def _text_of(part: Any, where: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise ValueError(f"{where}: expected texts alone; images, audio and files are not read")
    return text


def _role(name: str) -> Role:
    return msgspec.convert(name, Role)


def _conversation(messages: list[Message]) -> Conversation:
    """System messages, wherever they stand, are one at the start."""
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    return Conversation(system, rest)
