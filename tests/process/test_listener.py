"""The listening socket."""

import socket

import pytest

from mlxnode.errors import AddressError
from mlxnode.process.listener import listen, url_of


def test_listen_takes_a_free_port_for_0():
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert url_of(listener) == f"http://{host}:{port}"
        with socket.create_connection((host, port), timeout=5):
            pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_listen_takes_ipv6_addresses():
    with listen("::1", 0) as listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_listen_binds_again_right_after_a_connection():
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5):
            listener.accept()[0].close()  # closed first: this side waits in TIME_WAIT
    listen(*address).close()


def test_listen_on_an_address_in_use_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}: it is in use"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no host", "a" * 70 + ".b"])
def test_listen_on_an_address_of_nobody_or_of_others_says_so(host):
    with pytest.raises(AddressError, match=f"cannot listen on {host}:0: .") as caught:
        listen(host, 0)
    assert caught.value.exit_code == 1
