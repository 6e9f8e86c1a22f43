"""What the interpreter and the system of a Mac have, and what they do not have.

``enter`` changes the whole process for good, so it is called before other modules are imported
(``site/sitecustomize.py``). Standard library alone.
"""

import contextlib
import errno
import importlib
import os
import platform
import posix
import resource
import select
import signal
import socket
import sys
import sysconfig
import time
import types
from collections.abc import Callable
from typing import Any

from macbox.facts import Mac

SOFT_LIMIT = 256  # of shells and launchd
OPEN_MAX = 10_240  # the most that setrlimit accepts where the hard limit says "unlimited"
SOMAXCONN = 128
PAIR_BUFFER = 8192  # bytes of a socket pair, in each direction

# Names that macOS does not have, as its man pages and Python's documentation say.
MISSING: dict[types.ModuleType, list[str]] = {
    os: [
        *("sched_getaffinity", "sched_setaffinity", "memfd_create", "eventfd", "pidfd_open"),
        *(
            "pipe2",
            "getrandom",
            "posix_fadvise",
            "posix_fallocate",
            "copy_file_range",
            "splice",
        ),
        *("setns", "unshare", "getresuid", "getresgid"),
    ],
    select: ["epoll"],
    signal: [
        *("SIGPWR", "SIGSTKFLT", "SIGPOLL", "SIGRTMIN", "SIGRTMAX"),
        *("sigtimedwait", "sigwaitinfo", "pidfd_send_signal"),
    ],
    resource: ["prlimit", "RUSAGE_THREAD"],
    socket: [
        *("SO_PEERCRED", "SO_BINDTODEVICE", "SO_PASSCRED", "SO_DOMAIN", "SO_PROTOCOL"),
        *("SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_USER_TIMEOUT", "TCP_DEFER_ACCEPT", "TCP_CORK"),
        *("MSG_NOSIGNAL", "MSG_CMSG_CLOEXEC", "MSG_MORE", "AF_NETLINK", "AF_VSOCK", "AF_ALG"),
    ],
    time: ["CLOCK_BOOTTIME", "CLOCK_TAI"],
}


def enter(mac: Mac) -> None:
    """Make this process believe that it runs on ``mac``."""
    _name_the_platform(mac)
    _add_the_proxy_module()
    _remove_names()
    _hide_proc()
    _limit_descriptors()
    _limit_sockets()


def _name_the_platform(mac: Mac) -> None:
    sysconfig.get_config_vars()  # read once, from a file that is named after the platform
    with contextlib.suppress(ImportError):
        importlib.import_module("truststore")  # on a Mac, it loads Apple's Security framework
    version = f"Darwin Kernel Version {mac.darwin}"
    names = ("Darwin", "mac.local", mac.darwin, version, "arm64")
    platform._uname_cache = None
    os.uname = posix.uname = lambda: posix.uname_result(names)
    platform.mac_ver = lambda *_, **__: (mac.macos, ("", "", ""), "arm64")
    platform.processor = lambda: "arm"
    sys.platform = "darwin"
    sysconf = os.sysconf
    pages = mac.memory // os.sysconf("SC_PAGE_SIZE")

    def of_the_mac(name: str | int) -> int:
        if name == "SC_AVPHYS_PAGES":
            raise ValueError("unrecognized configuration name")
        return pages if name == "SC_PHYS_PAGES" else sysconf(name)

    os.sysconf = of_the_mac


def _add_the_proxy_module() -> None:
    """urllib asks this module for the proxies of the system's settings."""
    module: Any = types.ModuleType("_scproxy")
    module._get_proxy_settings = dict
    module._get_proxies = dict
    sys.modules["_scproxy"] = module


def _remove_names() -> None:
    for module, names in MISSING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)


def _hide_proc() -> None:
    """There is no /proc and no /sys: opening, listing and asking for them fails."""

    def is_hidden(path: object) -> bool:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        return str(text).startswith(("/proc", "/sys/"))

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and is_hidden(arguments[0]):
            raise FileNotFoundError(errno.ENOENT, "no such file on a Mac", arguments[0])

    def checked(function: Callable) -> Callable:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if is_hidden(path):
                raise FileNotFoundError(errno.ENOENT, "no such file on a Mac", path)
            return function(path, *arguments, **options)

        return call

    sys.addaudithook(refuse)
    os.stat, os.lstat = checked(os.stat), checked(os.lstat)
    os.readlink = checked(os.readlink)
    access = os.access
    os.access = lambda path, *rest, **options: (
        not is_hidden(path) and access(path, *rest, **options)
    )


def _limit_descriptors() -> None:
    """A hard limit that says "unlimited", and a soft limit that cannot be set so high.

    The real hard limit may be lower than what is set here: the import of mlx_lm in the process
    that starts the box lowers it for good.
    """
    get, set_, kind = resource.getrlimit, resource.setrlimit, resource.RLIMIT_NOFILE
    soft, hard = get(kind)

    def getrlimit(which: int) -> tuple[int, int]:
        return (soft, resource.RLIM_INFINITY) if which == kind else get(which)

    def setrlimit(which: int, limits: tuple[int, int]) -> None:
        nonlocal soft
        if which != kind:
            set_(which, limits)
        elif limits[0] > OPEN_MAX or limits[0] == resource.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")
        else:
            soft = limits[0]
            set_(kind, (min(soft, hard), hard))

    resource.getrlimit, resource.setrlimit = getrlimit, setrlimit


def _limit_sockets() -> None:
    """A short queue of connections, and socket pairs with small buffers."""
    listen, socketpair = socket.socket.listen, socket.socketpair

    def listen_shortly(self: socket.socket, backlog: int = SOMAXCONN) -> None:
        listen(self, min(backlog, SOMAXCONN))

    def small_pair(*arguments: Any, **options: Any) -> tuple[socket.socket, socket.socket]:
        pair = socketpair(*arguments, **options)
        for end in pair:
            # Linux doubles the number, and counts its own overhead as well.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BUFFER // 2)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PAIR_BUFFER // 2)
        return pair

    socket.socket.listen = listen_shortly
    socket.socketpair = small_pair
