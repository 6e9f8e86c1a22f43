"""The status socket: a Unix-domain socket of the supervisor, for its owner's commands.

A client writes one line: ``status``, ``live`` or ``reload``. It gets one JSON document,
``figures.NodeFigures`` or ``Reloaded``, perhaps after some spaces, and nothing more.
``live`` is ``status`` with the history.
Only the owner of the node can connect: the folder of the socket is the owner's alone.
"""

import concurrent.futures
import contextlib
import logging
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from mlxnode.errors import ConfigError, NodeError, StatusError, reason_of
from mlxnode.figures import NodeFigures
from mlxnode.models.cache_folder import cache_folder

STATUS, LIVE, RELOAD = b"status\n", b"live\n", b"reload\n"

log = logging.getLogger("mlxnode.supervisor")

_MAX_PATH = 103  # bytes of an AF_UNIX path on macOS, without the zero at its end
_BACKLOG = 128  # clients that wait; macOS has no longer queue
CLIENT_TIMEOUT = 1.0  # seconds for a client to read its document
READ_TIMEOUT = 5.0  # seconds for the node to answer
_KEEP_ALIVE = 1.0  # seconds between two spaces, while a reload takes time
_MAX_REQUEST = 64  # bytes
_PAUSE = 1.0  # seconds after an accept that failed, while the system has no descriptor left


def status_path(port: int) -> Path:
    """The socket of the node that listens on ``port``."""
    return socket_path(f"{port}.sock")


def socket_path(name: str) -> Path:
    """A socket in a folder of this user's alone, as near to the cache as the system allows."""
    own = f"mlxnode-{os.getuid()}"
    folders = (cache_folder() / "run", _temporary_folder() / own, Path("/tmp") / own)
    paths = [folder / name for folder in folders]
    return next((p for p in paths if len(os.fsencode(p)) <= _MAX_PATH), paths[-1])


def running_ports() -> list[int]:
    """The ports of this user's nodes that have a socket; a node that was killed leaves one."""
    return sorted(int(path.stem) for path in status_path(65535).parent.glob("[0-9]*.sock"))


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # no folder takes a file: the disk is full, say
        return Path("/tmp")


class Reloaded(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a reload has changed, or why it has changed nothing."""

    changes: list[str] = []
    error: str | None = None
    is_config_error: bool = True


def read_status(port: int, *, with_history: bool = False) -> NodeFigures:
    """The figures of the node that listens on ``port``; without the history unless asked.

    Raises:
        StatusError: no node answers there, or it has another version of the figures.
    """
    return _ask(port, LIVE if with_history else STATUS, NodeFigures)


def ask_reload(port: int) -> list[str]:
    """Let the node that listens on ``port`` read its configuration; returns what has changed.

    It returns once the node works as its configuration says, downloads included.

    Raises:
        ConfigError: the configuration is wrong, so the node goes on as it was.
        StatusError: no node answers there, or it has another version.
    """
    reloaded = _ask(port, RELOAD, Reloaded)
    if reloaded.error is not None:
        raise (ConfigError if reloaded.is_config_error else StatusError)(reloaded.error)
    return reloaded.changes


Answer = TypeVar("Answer", NodeFigures, Reloaded)


def _ask(port: int, request: bytes, kind: type[Answer]) -> Answer:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(READ_TIMEOUT)
            connection.connect(str(status_path(port)))
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                data = stream.read()
        return msgspec.json.decode(data, type=kind)
    except OSError as error:
        reason = error.strerror or error
        raise StatusError(f"no node answers on port {port}: {reason}") from error
    except msgspec.DecodeError as error:
        raise StatusError(f"the node on port {port} has another version: {error}") from error


class StatusSocket:
    """Answers each client with the figures of the moment, on a thread of its own.

    ``figures`` is called on that thread. A client that does not write or read is dropped, and
    meanwhile nobody waits but other clients. ``reload`` reads the configuration again; a thread
    for each such client waits for its result, the changes.
    """

    def __init__(
        self,
        port: int,
        figures: Callable[[], NodeFigures],
        reload: Callable[[], Future[list[str]]] | None = None,
    ):
        self._path = status_path(port)
        self._figures = figures
        self._reload = reload
        self._socket: socket.socket | None = None
        self._inode = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)

    def open(self) -> None:
        """Listen. A node serves without the socket as well, so an error is only logged."""
        try:
            make_private(self._path.parent)
            self._remove_stale()
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(str(self._path))
            self._path.chmod(0o600)
            self._inode = self._path.stat().st_ino
            self._socket.listen(_BACKLOG)
        except OSError as error:
            log.warning("`mlxnode status` will not find this node: %s: %s", self._path, error)
            self._close_socket()
            return
        self._thread.start()

    def close(self) -> None:
        """End the thread, and remove the socket if it is still this node's."""
        self._closed.set()
        if self._socket is None:
            return
        if self._is_own():
            with contextlib.suppress(OSError):
                _connect(self._path).close()  # wakes the thread; a close would not
                self._thread.join(2 * CLIENT_TIMEOUT)
            self._path.unlink(missing_ok=True)
        self._close_socket()

    def _is_own(self) -> bool:
        """True if no other node has replaced the socket."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _remove_stale(self) -> None:
        """Remove the socket of a node that was killed.

        Raises:
            FileExistsError: a node answers there.
        """
        try:
            _connect(self._path).close()
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            self._path.unlink()
        else:
            raise FileExistsError("another node on this port answers")

    def _serve(self) -> None:
        listener = self._socket
        while listener is not None and not self._closed.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                self._closed.wait(_PAUSE)
                continue
            try:
                connection.settimeout(CLIENT_TIMEOUT)
                self._answer(connection)
            except OSError:
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        request = _read_line(connection)
        if request == RELOAD:
            # It can take as long as a download.
            threading.Thread(
                target=self._answer_reload, args=(connection,), name="reload", daemon=True
            ).start()
            return
        with connection:
            if request in (STATUS, LIVE):
                figures = self._figures()
                if request == STATUS:
                    figures = replace(figures, history=[])
                connection.sendall(msgspec.json.encode(figures))
            elif request:
                unknown = _no_answer(f"unknown request {request!r}")
                connection.sendall(msgspec.json.encode(unknown))

    def _answer_reload(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            answer = self._wait_for_reload(connection)
            connection.sendall(msgspec.json.encode(answer))

    def _wait_for_reload(self, connection: socket.socket) -> Reloaded:
        """Keep the client waiting until there is an answer.

        Raises:
            OSError: the client has left.
        """
        if self._reload is None:
            return _no_answer("this node reads its configuration at its start only")
        future = self._reload()
        while True:
            done, _ = concurrent.futures.wait([future], _KEEP_ALIVE)
            if self._closed.is_set():
                return _no_answer("the node is ending")
            if done:
                break
            connection.sendall(b" ")
        try:
            return Reloaded(changes=future.result())
        except StatusError as error:
            return _no_answer(str(error))
        except Exception as error:  # whatever the configuration holds
            return Reloaded(
                error=str(error) if isinstance(error, NodeError) else reason_of(error)
            )


def _no_answer(why: str) -> Reloaded:
    return Reloaded(error=why, is_config_error=False)


def _read_line(connection: socket.socket) -> bytes:
    """The request of a client, with its line end if it is whole."""
    request = b""
    while not request.endswith(b"\n") and len(request) < _MAX_REQUEST:
        piece = connection.recv(_MAX_REQUEST - len(request))
        if not piece:
            break
        request += piece
    return request


def _connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(CLIENT_TIMEOUT)
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


def make_private(folder: Path) -> None:
    """Make the folder, for this user alone.

    Raises:
        PermissionError: it is another user's, or a link.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} is not a folder of this user")
    folder.chmod(0o700)
