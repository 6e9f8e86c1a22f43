"""Typed message pipes between processes.

A ``Pipe`` wraps one end of ``multiprocessing.Pipe()``. A reader thread decodes the incoming
messages, a writer thread sends the queued ones. Neither side ever waits for the other, and a
peer that hangs in the middle of a message blocks a thread, not a loop.
"""

import contextlib
import errno
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from mlxnode.messages.message import decoder_of, encode

log = logging.getLogger("mlxnode.process")

MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class Pipe:
    """One end of a message pipe.

    ``receives`` is the type of the incoming messages: one type, or a union. The reader thread
    calls ``on_message`` for each message. It calls ``on_close`` once: after ``close``, after
    the end of the peer, or after bytes that are not a message.
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
        self._decoder = decoder_of(receives)
        self._on_message = on_message
        self._on_close = on_close
        # An event is set when all that is queued before it is written.
        self._outbox: queue.SimpleQueue[tuple[bytes, int | None] | threading.Event | None]
        self._outbox = queue.SimpleQueue()
        self._max_queued = max_queued
        self._closed = threading.Event()
        # After a close, the number of the descriptor can belong to another file.
        self._descriptor_lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name=f"{name}-read", daemon=True)
        self._writer = threading.Thread(target=self._write, name=f"{name}-write", daemon=True)

    def start(self) -> "Pipe":
        """Start both threads; returns the pipe itself."""
        self._reader.start()
        self._writer.start()
        return self

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def send(self, message: msgspec.Struct, fd: int | None = None) -> bool:
        """Queue ``message``. False if the pipe is closed or the peer does not keep up.

        ``fd`` follows the message. The caller keeps it open until the peer has received it.
        """
        if self._closed.is_set() or self._outbox.qsize() >= self._max_queued:
            return False
        self._outbox.put((encode(message), fd))
        return True

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until all that is queued is written; True if it is."""
        written = threading.Event()
        self._outbox.put(written)
        return not self._closed.is_set() and written.wait(timeout)

    def receive_fd(self) -> int:
        """The descriptor that follows the current message. Call only in ``on_message``."""
        return receive_fd(self._connection)

    def close(self) -> None:
        """Wake both threads and end them. Queued messages are lost."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._outbox.put(None)
        self._shut_down()

    def _shut_down(self) -> None:
        # A blocked read or write wakes up on a shutdown, but not on a close.
        with self._descriptor_lock:
            if not self._connection.closed:
                with contextlib.suppress(OSError), _as_socket(self._connection) as pair:
                    pair.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            while True:
                data = self._connection.recv_bytes(MAX_MESSAGE_BYTES)
                self._on_message(self._decoder.decode(data))
        except (EOFError, OSError, msgspec.DecodeError) as error:
            _log_shortage(error)
        finally:
            self._closed.set()
            self._outbox.put(None)
            self._shut_down()  # else a writer in the middle of a message would wait forever
            self._on_close()

    def _write(self) -> None:
        try:
            while (item := self._outbox.get()) is not None:
                if isinstance(item, threading.Event):
                    item.set()
                    continue
                data, fd = item
                self._connection.send_bytes(data)
                if fd is not None:
                    send_fd(self._connection, fd)
        except OSError:
            pass  # the reader sees the same end and reports it
        self._reader.join()
        with self._descriptor_lock:
            self._connection.close()


@contextlib.contextmanager
def _as_socket(connection: Connection) -> Iterator[socket.socket]:
    """The socket inside a duplex ``multiprocessing`` connection. Takes no descriptor more."""
    pair = socket.socket(fileno=connection.fileno())
    try:
        yield pair
    finally:
        pair.detach()


def send_fd(connection: Connection, fd: int) -> None:
    """Pass a descriptor. The caller keeps ``fd`` open until the peer has received it.

    ``multiprocessing.reduction.send_handle`` waits for a raw acknowledgement byte on macOS,
    which would mix with the messages of a duplex pipe. Here, the ``Connected`` message is the
    acknowledgement.
    """
    with _as_socket(connection) as pair:
        socket.send_fds(pair, [b"\0"], [fd])


def receive_fd(connection: Connection) -> int:
    """The descriptor that ``send_fd`` sent.

    Raises:
        EOFError: the peer ended before it sent the descriptor.
        OSError: this process has no descriptor left for it.
    """
    with _as_socket(connection) as pair:
        data, fds, _, _ = socket.recv_fds(pair, 1, 1)
    if not data:
        raise EOFError("the peer went away while passing a descriptor")
    if len(fds) != 1:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return fds[0]


def _log_shortage(error: Exception) -> None:
    """Log that a pipe ends for lack of descriptors; its other ends are no news."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        log.warning("a pipe between the processes is closed: %s", error.strerror)
