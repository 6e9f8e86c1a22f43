"""The names of this node, where no key is required: no other Host may reach it.

A page of the internet can lead its own name to an address of this machine or of a private
network, and then reads all answers as those of its own origin (DNS rebinding). The browser
still sends that name as Host.
"""

import ipaddress
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable

from mlxnode.server.errors import Forbidden

# A port is digits, or nothing (RFC 3986, 3.2.3).
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::[0-9]*)?")
_AUTHORITY = re.compile(rb"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)  # of an absolute URL
_NUMERIC = re.compile(r"[0-9a-fx.]+")
# What containers call the machine that they run on: Docker, Podman, Lima and OrbStack. Nobody
# can register a name below .internal.
_OF_CONTAINERS = ("docker", "containers", "lima", "orb")
_TIMEOUT = 2.0  # seconds; scutil answers within milliseconds


class Hosts:
    """The names that a Host header may hold: addresses, localhost, and ``names``.

    A name such as ``*.example.com`` is every name below ``example.com``.
    """

    def __init__(self, names: Iterable[str]):
        plain = {_plain(name) for name in names}
        self._suffixes = (".localhost", *(name[1:] for name in plain if name.startswith("*.")))
        self._names = plain | {"", "localhost"}
        self._names |= {f"host.{system}.internal" for system in _OF_CONTAINERS}

    def check(self, hosts: Iterable[str], url: bytes) -> None:
        """Check the Host headers of a request, and its URL, which can name a host as well.

        A request without any is not from a browser.

        Raises:
            Forbidden: a name is not one of this node; with the code ``unknown_host``.
        """
        absolute = _AUTHORITY.match(url)
        named = [absolute[1].decode("latin-1")] if absolute else []
        for host in [*hosts, *named]:
            if not self._is_known(host):
                raise Forbidden(
                    f"Unknown Host {host[:255]!r}: this server requires no key, so it answers "
                    "only to addresses and to its own names. Add the name to allowed_hosts in "
                    "[api] of its configuration, or require a key.",
                    code="unknown_host",
                )

    def _is_known(self, host: str) -> bool:
        found = _HOST.fullmatch(host.strip())
        if found is None:
            return False
        if found[1] is not None:
            return _is_address(found[1])
        name = _plain(found[2])
        # Browsers resolve names below .localhost themselves (RFC 6761, 6.3).
        return name in self._names or name.endswith(self._suffixes) or _is_address(name)


def own_names() -> set[str]:
    """The names of this machine in its network, as far as it knows them itself."""
    name = _plain(socket.gethostname())
    short = name.partition(".")[0]
    names = {name, short, f"{short}.local"} if short else set()
    # macOS: the name for .local is set apart from the name that the network gives.
    if (scutil := shutil.which("scutil")) is not None:
        command = [scutil, "--get", "LocalHostName"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
        except (OSError, subprocess.SubprocessError):
            return names
        local = _plain(done.stdout.strip())
        names |= {local, f"{local}.local"} if local else set()
    return names


def _plain(name: str) -> str:
    """The name as all its spellings are compared: in lower case, without the root's dot."""
    return name.lower().removesuffix(".")


def _is_address(host: str) -> bool:
    """True for an IP address, short forms included: no name server is asked for it."""
    try:
        ipaddress.ip_address(host.replace("%25", "%"))
    except ValueError:
        pass
    else:
        return True
    try:
        return bool(_NUMERIC.fullmatch(host)) and bool(socket.inet_aton(host))
    except OSError:
        return False
