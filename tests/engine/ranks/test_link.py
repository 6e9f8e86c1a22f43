"""Links between ranks: keys, garbage, silence, and what ends them."""

import os
import queue
import socket
import threading
from types import SimpleNamespace

import pytest

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.ranks import handshake
from mlxnode.engine.ranks.door import MAX_HANDSHAKES, Door, ProvenDoor
from mlxnode.engine.ranks.handshake import AuthenticationError, connect
from mlxnode.engine.ranks.link import MAX_MESSAGE_BYTES, Link, LinkLost
from mlxnode.messages.message import encode
from mlxnode.messages.ranks import Beat, Goodbye, Hello, Plan, from_rank, to_rank

KEY = b"the key"


@pytest.fixture
def door():
    door = ProvenDoor("127.0.0.1", 0, KEY)
    yield door
    door.close()


@pytest.fixture
def pair(door):
    theirs = connect("127.0.0.1", door.port, KEY)
    ours, lost = door.arrivals.get(timeout=10), queue.SimpleQueue()
    link = Link(ours, from_rank, lost.put, silence=0.6)
    yield SimpleNamespace(link=link, theirs=theirs, lost=lost)
    link.close()
    theirs.close()
    ours.close()


def test_messages_come_in_order_and_beats_are_noted(pair):
    pair.link.start()
    there = Link(pair.theirs, to_rank, print, beat=lambda: Beat(44)).start()
    for number in range(50):
        pair.link.send(Plan([], [number]))
    assert [there.receive().dropped for _ in range(50)] == [[n] for n in range(50)]
    assert there.receive_nowait() is None
    beaten = threading.Event()
    for _ in range(100):
        if pair.link.last_beat.memory_bytes == 44:
            break
        beaten.wait(0.05)
    assert pair.link.last_beat == Beat(44)
    there.close(Goodbye("enough"))
    assert pair.lost.get(timeout=5) == "enough"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda theirs: theirs.close(), "the connection is closed"),
        (lambda theirs: None, "silent for 0.6 s"),
        (lambda theirs: theirs.send_bytes(b"\xc1garbage"), "what is no message"),
        (lambda theirs: os.write(theirs.fileno(), b"\0\0\0\x50half"), "silent for 0.6 s"),
        (lambda theirs: os.write(theirs.fileno(), b"\x7f\xff\xff\xff"), "closed"),
    ],
    ids=["closed", "silent", "garbage", "half a message", "a huge message"],
)
def test_a_lost_side_is_told_once_with_its_reason(pair, end, reason):
    pair.link.start()
    end(pair.theirs)
    assert reason in pair.lost.get(timeout=5)
    with pytest.raises(LinkLost):
        pair.link.receive()
    with pytest.raises(LinkLost):
        pair.link.receive()
    with pytest.raises(queue.Empty):
        pair.lost.get(timeout=0.2)


def test_a_side_that_reads_nothing_is_lost_and_blocks_nobody_for_long(pair):
    pair.link.start()
    big = Plan([], [1 << 40] * 1_000_000)
    assert len(encode(big)) < MAX_MESSAGE_BYTES
    with pytest.raises(LinkLost):
        for _ in range(100):
            pair.link.send(big)
    assert "silent" in pair.lost.get(timeout=5)


def test_a_closed_link_is_no_loss(pair):
    pair.link.start()
    pair.link.close(Goodbye())
    with pytest.raises(queue.Empty):
        pair.lost.get(timeout=0.3)


def test_both_sides_have_to_have_the_key(door):
    with pytest.raises((AuthenticationError, EOFError, OSError)):
        connect("127.0.0.1", door.port, b"another key")
    with pytest.raises(queue.Empty):
        door.arrivals.get(timeout=0.2)


def test_garbage_and_half_open_connections_disturb_nobody(door, monkeypatch):
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.5)
    strangers = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(10)]
    for stranger in strangers[:5]:
        stranger.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
    assert MAX_HANDSHAKES > 10
    with connect("127.0.0.1", door.port, KEY):
        door.arrivals.get(timeout=10).close()
    for stranger in strangers:
        stranger.settimeout(10)
        try:
            while stranger.recv(1000):
                pass
        except ConnectionResetError:
            pass
        stranger.close()


def test_who_does_not_say_hello_is_let_go():
    door = Door("127.0.0.1", 0, KEY, 0.3)
    try:
        with connect("127.0.0.1", door.port, KEY) as silent, pytest.raises(EOFError):
            silent.recv_bytes()
        with connect("127.0.0.1", door.port, KEY) as wrong:
            wrong.send_bytes(encode(Beat()))
            with pytest.raises((EOFError, ConnectionResetError)):
                wrong.recv_bytes()
        with connect("127.0.0.1", door.port, KEY) as right:
            right.send_bytes(encode(Hello(2, "there", {})))
            arrival = door.arrivals.get(timeout=10)
            assert arrival.hello.rank == 2
            arrival.connection.close()
    finally:
        door.close()


def test_settings_travel_as_they_are():
    settings = EngineConfig(max_batch_size=7, kv_cache_bits=4)
    assert EngineConfig.model_validate(settings.model_dump(mode="json")) == settings
