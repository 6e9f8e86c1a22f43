"""How the arguments of a mirrored call travel: plain values, handles, and shapes of arrays."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import msgspec

_HANDLE, _ARRAY = 1, 2  # codes of msgpack's extension types


def pack(value: Any, handle_of: Callable[[object], int | None]) -> Any:
    """What ``unpack`` makes the same value of, on another rank.

    Raises:
        TypeError: the value cannot travel.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, mx.array):
        shape = [str(value.dtype).rpartition(".")[2], *value.shape]
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(shape))
    if (handle := handle_of(value)) is not None:
        return msgspec.msgpack.Ext(_HANDLE, msgspec.msgpack.encode(handle))
    if isinstance(value, list | tuple):
        is_flat = all(type(item) is int for item in value)
        return list(value) if is_flat else [pack(item, handle_of) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot travel to other ranks")


def unpack(value: Any, things: dict[int, Any], receive: Callable[[mx.array], mx.array]) -> Any:
    """The value; ``things`` are those of this rank by handle, ``receive`` fills arrays."""
    if isinstance(value, msgspec.msgpack.Ext):
        content = msgspec.msgpack.decode(value.data)
        if value.code == _HANDLE:
            return things[content]
        dtype, *shape = content
        return receive(mx.zeros(shape, getattr(mx, dtype)))
    if isinstance(value, list) and not all(type(item) is int for item in value):
        return [unpack(item, things, receive) for item in value]
    return value
