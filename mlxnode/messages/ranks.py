"""The messages between the ranks of a distributed engine, over TCP.

Rank 0 sends plans: the calls that all ranks make with their part of a model, in the order in
which rank 0 makes them. The others answer with what rank 0 cannot know by itself.
"""

from typing import Any

from mlxnode.config.several import Strategy
from mlxnode.messages.message import Message, decoder_of
from mlxnode.models.served import ServedModel


class Hello(Message, frozen=True):
    """rank -> rank 0, first: who it is. Versions that differ are refused by name."""

    rank: int | None  # None: the next one that is free
    host: str
    versions: dict[str, str]  # of mlxnode, mlx and mlx-lm


class Welcome(Message, frozen=True):
    """rank 0 -> rank: the group that it joins, and the variables of MLX for it."""

    rank: int
    size: int
    backend: str
    environment: dict[str, str]
    files: dict[str, str]  # variable of the environment -> content of the file that it names
    settings: dict[str, Any]  # of the engine: [engine] of rank 0
    silence: float  # seconds without a message, after which the other side is lost


class Refused(Message, frozen=True):
    """rank 0 -> rank: it cannot join."""

    reason: str


class Beat(Message, frozen=True):
    """Both ways, several times a second: the process is alive."""

    memory_bytes: int = 0  # that MLX uses on it
    fullness: float = 0.0  # what counts against its memory limit, as a part of that
    is_system_short: bool = False  # of memory


class Call(Message, frozen=True):
    """One call of a mirrored function (``engine/mirror.py``)."""

    name: str
    arguments: list[Any]  # as ``ranks/arguments.py`` packs them
    options: dict[str, Any]
    result: int  # the handle of what it returns, if the ranks keep it


class Plan(Message, frozen=True):
    """rank 0 -> ranks: calls, after the release of the handles in ``dropped``."""

    calls: list[Call]
    dropped: list[int] = []
    failed: int | None = None  # the number of the last call, if it raised on rank 0


class LoadPart(Message, frozen=True):
    """rank 0 -> ranks: load a part of a model. Each answers with Loaded or NotLoaded."""

    handle: int
    model: ServedModel
    strategy: Strategy
    files: dict[str, str]  # name -> fingerprint, of the files of rank 0
    home: str  # the folder of the user who runs rank 0


class Loaded(Message, frozen=True):
    """rank -> rank 0: the part is in memory."""

    handle: int
    kv_budget: int  # bytes that are left for KV caches
    kv_token: int  # bytes of one token in a KV cache, all layers


class NotLoaded(Message, frozen=True):
    """rank -> rank 0: the part cannot be loaded."""

    handle: int
    reason: str


class Goodbye(Message, frozen=True):
    """Both ways: the process ends, for ``reason``; empty: as it was told."""

    reason: str = ""


ToRank = Welcome | Refused | Beat | Plan | LoadPart | Goodbye
FromRank = Hello | Beat | Loaded | NotLoaded | Goodbye

to_rank = decoder_of(ToRank)
from_rank = decoder_of(FromRank)
