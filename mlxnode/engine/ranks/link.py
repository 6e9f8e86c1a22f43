"""A connection with another rank: messages in order, and signs of life both ways.

One thread sends a ``Beat`` several times a second, another receives. A process that dies closes
its connections at once; one that is stopped, or whose machine is gone, is silent. Both are a
loss, which is told once.
"""

import errno
import os
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from mlxnode.engine.ranks.handshake import bound_silence, shut_down
from mlxnode.messages.message import encode
from mlxnode.messages.ranks import Beat, Goodbye

BEAT_INTERVAL = 0.5  # seconds
SILENCE = 2.5  # seconds without a message, after which the other side is lost
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # plans carry the tokens of prompts, not tensors


class LinkLost(Exception):
    """The other side is gone; the message says how."""


class Link:
    """One end of a connection that has proved its key (``handshake``).

    ``on_lost`` is called once, on a thread of the link, with the reason: the other side has
    closed the connection, was silent for ``silence`` seconds, or has said ``Goodbye``. After
    ``close``, it is not called.
    """

    def __init__(
        self,
        connection: Connection,
        decoder: msgspec.msgpack.Decoder[Any],
        on_lost: Callable[[str], None],
        *,
        beat: Callable[[], Beat] = Beat,
        silence: float = SILENCE,
    ):
        self._connection, self._decoder = connection, decoder
        self._on_lost, self._make_beat, self._silence = on_lost, beat, silence
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._send_lock, self._state_lock = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self.last_beat = Beat()  # of the other side

    def start(self) -> "Link":
        """Start the threads; from now on, silence is a loss. Returns the link itself."""
        bound_silence(self._connection, self._silence)
        for target in (self._receive, self._beat):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()
        return self

    def send(self, message: msgspec.Struct) -> None:
        """Send ``message``; waits while the other side does not keep up.

        Raises:
            LinkLost: the other side is gone. ``on_lost`` is called as well.
        """
        try:
            with self._send_lock:
                self._connection.send_bytes(encode(message))
        except (OSError, ValueError) as error:
            reason = _reason(error, self._silence)
            self._lose(reason)
            raise LinkLost(reason) from error

    def receive(self) -> Any:
        """Wait for the next message that is no ``Beat``.

        Raises:
            LinkLost: the other side is gone, and all its messages have been received.
        """
        return self._taken(self._inbox.get())

    def receive_nowait(self) -> Any | None:
        """The next message that has arrived; None: there is none.

        Raises:
            LinkLost: as ``receive``.
        """
        try:
            return self._taken(self._inbox.get_nowait())
        except queue.Empty:
            return None

    def close(self, goodbye: Goodbye | None = None) -> None:
        """End the connection; the other side learns why if there is a ``goodbye``."""
        with self._state_lock:
            if self._closed.is_set():
                return
            self._closed.set()
        if goodbye is not None and self._send_lock.acquire(timeout=self._silence):
            try:
                self._connection.send_bytes(encode(goodbye))
            except (OSError, ValueError):
                pass  # it is gone before us
            finally:
                self._send_lock.release()
        shut_down(self._connection)

    def _taken(self, item: Any) -> Any:
        if isinstance(item, LinkLost):
            self._inbox.put(item)  # for whoever asks again
            raise item
        return item

    def _receive(self) -> None:
        try:
            while True:
                message = self._decoder.decode(self._connection.recv_bytes(MAX_MESSAGE_BYTES))
                if isinstance(message, Beat):
                    self.last_beat = message
                    continue
                self._inbox.put(message)
                if isinstance(message, Goodbye):
                    return self._lose(message.reason or "it has ended")
        except (EOFError, OSError, msgspec.DecodeError) as error:
            self._lose(_reason(error, self._silence))

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_INTERVAL):
            try:
                self.send(self._make_beat())
            except LinkLost:
                return

    def _lose(self, reason: str) -> None:
        with self._state_lock:
            is_first = not self._closed.is_set()
            self._closed.set()
        self._inbox.put(LinkLost(reason))
        if is_first:
            shut_down(self._connection)
            self._on_lost(reason)


def _reason(error: Exception, silence: float) -> str:
    """Why the other side is lost, as the rest of a sentence."""
    if isinstance(error, msgspec.DecodeError):
        return f"it sends what is no message: {error}"
    number = getattr(error, "errno", None)
    if number in (errno.EAGAIN, errno.ETIMEDOUT):
        return f"silent for {silence:g} s"
    gone = (None, errno.EPIPE, errno.ECONNRESET, errno.EBADF)
    if isinstance(error, EOFError) or number in gone:
        return "the connection is closed"
    return os.strerror(number or 0)
