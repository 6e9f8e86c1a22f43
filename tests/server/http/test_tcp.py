"""The probes of silent connections."""

import socket
import sys
from pathlib import Path

import pytest
from support.bare_requests import chat

from mlxnode.messages.data import Generate
from mlxnode.server.http.tcp import probe_when_silent

_KEEP_ALIVE_TIMER = "02"  # in /proc/net/tcp


def test_probes_come_before_a_router_forgets_the_connection():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        server.accept()[0] as connection,
    ):
        probe_when_silent(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        name = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
        idle = connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
        assert 0 < idle < 60


def test_probes_of_a_closed_connection_are_no_error():
    connection = socket.socket()
    connection.close()
    probe_when_silent(connection)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="timers are read from Linux")
def test_probes_are_on_for_a_request_that_waits(worker):
    worker.engine.is_silent = True
    with chat(worker) as connection:
        worker.engine.next(Generate)
        ends = f":{worker.port:04X}", f":{connection.getsockname()[1]:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        [timer] = [
            row[5] for row in rows if row[1].endswith(ends[0]) and row[2].endswith(ends[1])
        ]
    assert timer.partition(":")[0] == _KEEP_ALIVE_TIMER
