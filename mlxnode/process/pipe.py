"""Typed message pipes between processes.

A ``Pipe`` wraps one end of ``multiprocessing.Pipe()``. A reader thread decodes what
arrives, a writer thread sends what is queued: neither side ever waits for the other, and
a peer that hangs in the middle of a message blocks a thread, not a loop.
"""

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec

MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class Pipe:
    """One end of a message pipe.

    ``on_message`` and ``on_close`` are called on the reader thread. ``on_close`` is called
    once, when the peer is gone, sends what is no message, or ``close`` was called.
    """

    def __init__(
        self,
        connection: Connection,
        receives: Any,
        on_message: Callable[[Any], None],
        on_close: Callable[[], None],
        *,
        max_queued: int = 10_000,
        name: str = "pipe",
    ):
        self._connection = connection
        self._decoder = msgspec.msgpack.Decoder(receives)
        self._on_message = on_message
        self._on_close = on_close
        self._outbox: queue.SimpleQueue[tuple[bytes, int | None] | None] = queue.SimpleQueue()
        self._max_queued = max_queued
        self._closed = threading.Event()
        self._descriptor = threading.Lock()  # its number is another file's once it is closed
        self._reader = threading.Thread(target=self._read, name=f"{name}-read", daemon=True)
        self._writer = threading.Thread(target=self._write, name=f"{name}-write", daemon=True)

    def start(self) -> "Pipe":
        self._reader.start()
        self._writer.start()
        return self

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def send(self, message: msgspec.Struct, fd: int | None = None) -> bool:
        """Queue ``message``; False when the pipe is closed or the peer does not keep up.

        A descriptor that goes along stays open until the peer says that it has arrived.
        """
        if self._closed.is_set() or self._outbox.qsize() >= self._max_queued:
            return False
        self._outbox.put((msgspec.msgpack.encode(message), fd))
        return True

    def receive_fd(self) -> int:
        """The descriptor that follows the message being handled. Only in ``on_message``."""
        return receive_fd(self._connection)

    def close(self) -> None:
        """Wake both threads and end; what is still queued is lost."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._outbox.put(None)
        self._shut_down()

    def _shut_down(self) -> None:
        # A descriptor that is closed under a blocked read or write does not wake it.
        with self._descriptor:
            if not self._connection.closed:
                with contextlib.suppress(OSError), _as_socket(self._connection) as pair:
                    pair.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            while True:
                data = self._connection.recv_bytes(MAX_MESSAGE_BYTES)
                self._on_message(self._decoder.decode(data))
        except (EOFError, OSError, msgspec.DecodeError):
            pass
        finally:
            self._closed.set()
            self._outbox.put(None)
            self._shut_down()  # a writer in the middle of a message would wait for ever
            self._on_close()

    def _write(self) -> None:
        try:
            while (item := self._outbox.get()) is not None:
                data, fd = item
                self._connection.send_bytes(data)
                if fd is not None:
                    send_fd(self._connection, fd)
        except OSError:
            pass  # The reader sees the same end and reports it.
        self._reader.join()
        with self._descriptor:
            self._connection.close()


def _as_socket(connection: Connection) -> socket.socket:
    """A duplicate of the socket behind a duplex ``multiprocessing`` connection."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def send_fd(connection: Connection, fd: int) -> None:
    """Pass a descriptor; the caller keeps ``fd`` open until the peer says it has arrived.

    ``multiprocessing.reduction.send_handle`` waits for a raw acknowledgement byte on macOS,
    which would mix with the messages of a duplex pipe; ours is the ``Connected`` message.
    """
    with _as_socket(connection) as pair:
        socket.send_fds(pair, [b"\0"], [fd])


def receive_fd(connection: Connection) -> int:
    """The descriptor sent by ``send_fd``."""
    with _as_socket(connection) as pair:
        _, fds, _, _ = socket.recv_fds(pair, 1, 1)
    if len(fds) != 1:
        raise EOFError("the peer went away while passing a descriptor")
    return fds[0]
