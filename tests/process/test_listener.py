"""The listening socket."""

import contextlib
import socket
import subprocess
import sys

import pytest

from mlxnode.errors import AddressError
from mlxnode.process import listener as listener_module
from mlxnode.process.listener import listen, url_of

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")


def test_listen_takes_a_free_port_for_0():
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert url_of(listener) == f"http://{host}:{port}"
        with socket.create_connection((host, port), timeout=5):
            pass


@needs_ipv6
def test_listen_takes_ipv6_addresses():
    with listen("::1", 0) as listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_listen_binds_again_right_after_a_connection():
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5):
            listener.accept()[0].close()  # closed first: this side waits in TIME_WAIT
    listen(*address).close()


def test_listen_binds_again_right_after_an_earlier_process():
    """Connections that the earlier node has closed wait in TIME_WAIT; so do open ones."""
    code = (
        "import socket; from mlxnode.process.listener import listen;"
        "listener = listen('127.0.0.1', 0); print(listener.getsockname()[1], flush=True);"
        "first, _ = listener.accept(); second, _ = listener.accept(); first.close(); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as earlier:
        address = "127.0.0.1", int(earlier.stdout.readline())
        with (
            socket.create_connection(address, timeout=5) as first,
            socket.create_connection(address, timeout=5),
        ):
            assert first.recv(1) == b""
            earlier.kill()
            earlier.wait()
            listen(*address).close()
        listen(*address).close()


def occupy(host: str, port: int = 0, *, only_ipv6: bool = False) -> socket.socket:
    """Listen as another program does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == "::" and not only_ipv6
    return socket.create_server((host, port), family=family, dualstack_ipv6=dual)


def address_to_others() -> str:
    """The address of this machine in its network; the loopback address if it has none."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    return "127.0.0.1"


@pytest.fixture
def side_by_side(monkeypatch):
    """SO_REUSEADDR lets two programs listen at one port, as macOS does for mixed addresses."""
    real = socket.socket.setsockopt

    def set_option(self: socket.socket, level: int, name: int, value: int) -> None:
        real(self, level, name, value)
        if name == socket.SO_REUSEADDR:
            real(self, level, socket.SO_REUSEPORT, value)

    monkeypatch.setattr(socket.socket, "setsockopt", set_option)


CONFLICTS = [
    ("127.0.0.1", "127.0.0.1", "127.0.0.1:{}"),
    ("127.0.0.1", "0.0.0.0", "127.0.0.1:{}"),
    ("0.0.0.0", "127.0.0.1", "127.0.0.1:{}"),
    ("0.0.0.0", "0.0.0.0", "127.0.0.1:{}"),
    (address_to_others(), "0.0.0.0", address_to_others() + ":{}"),
    ("0.0.0.0", address_to_others(), address_to_others() + ":{}"),
    *(
        pytest.param(*conflict, marks=needs_ipv6)
        for conflict in [
            ("::1", "::1", "[::1]:{}"),
            ("::1", "::", "[::1]:{}"),
            ("::", "::1", "[::1]:{}"),
            ("::", "::", "[::1]:{}"),
            ("::", "127.0.0.1", "127.0.0.1:{}"),
            ("::", "0.0.0.0", "127.0.0.1:{}"),
            ("127.0.0.1", "::", "127.0.0.1:{}"),
            ("0.0.0.0", "::", "127.0.0.1:{}"),
        ]
    ),
]


@pytest.mark.parametrize(("taken", "own", "shadowed"), CONFLICTS)
@pytest.mark.parametrize("rules", ["of this system", "of macOS"])
def test_listen_beside_another_program_names_its_address(request, rules, taken, own, shadowed):
    if rules == "of macOS":
        request.getfixturevalue("side_by_side")
    with occupy(taken) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressError) as caught:
            listen(own, port)
    where = shadowed.format(port)
    assert str(caught.value) == (
        f"cannot listen on {own}:{port}: {where} is in use by another program"
    )


@pytest.mark.parametrize(("taken", "own", "_"), CONFLICTS)
def test_listen_without_its_question_would_be_side_by_side(
    monkeypatch, side_by_side, taken, own, _
):
    """The fixture permits what the tests above refuse."""
    monkeypatch.setattr(listener_module, "_check_unused", lambda *_: None)
    with occupy(taken) as other:
        listen(own, other.getsockname()[1]).close()


@needs_ipv6
@pytest.mark.parametrize(
    ("taken", "own", "options"),
    [
        ("::1", "127.0.0.1", {}),
        ("127.0.0.1", "::1", {}),
        ("0.0.0.0", "::1", {}),
        ("::", "127.0.0.1", {"only_ipv6": True}),
        ("::", "0.0.0.0", {"only_ipv6": True}),
    ],
)
@pytest.mark.parametrize("rules", ["of this system", "of macOS"])
def test_listen_beside_a_program_of_the_other_family_is_allowed(
    request, rules, taken, own, options
):
    if rules == "of macOS":
        request.getfixturevalue("side_by_side")
    with occupy(taken, **options) as other, listen(own, other.getsockname()[1]) as listener:
        assert listener.getsockname()[1] == other.getsockname()[1]


def test_listen_does_not_take_a_connection_with_itself_for_another_program(monkeypatch):
    """The system can choose the port that is asked as the port that asks."""

    def connect_with_itself(address: tuple[str, int], *_: object) -> socket.socket:
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.connect(address)
        return probe

    with listen("127.0.0.1", 0) as found:
        port = found.getsockname()[1]
    monkeypatch.setattr(socket, "create_connection", connect_with_itself)
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no host", "a" * 70 + ".b"])
def test_listen_on_an_address_of_nobody_or_of_others_says_so(host):
    with pytest.raises(AddressError, match=f"cannot listen on {host}:0: .") as caught:
        listen(host, 0)
    assert caught.value.exit_code == 1
