"""What all messages have in common."""

from pathlib import Path
from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """Base of all messages. The encoding is an array whose first element is the class name."""


def encode(message: Any) -> bytes:
    """The bytes of ``message`` on the wire: a message, or a part of one."""
    return msgspec.msgpack.encode(message, enc_hook=_to_plain)


def decoder_of(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """The decoder of the messages of ``kind``: one type, or a union."""
    return msgspec.msgpack.Decoder(kind, dec_hook=_from_plain)


# msgspec does not know paths, which models have.


def _to_plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _from_plain(kind: type, value: Any) -> Path:
    if issubclass(kind, Path):
        return kind(value)
    raise NotImplementedError(kind.__name__)
