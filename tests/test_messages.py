"""The messages on the wire."""

from typing import get_args

import msgspec
import pytest

from mlxnode import messages as m

UNIONS = {
    m.WorkerToEngine: [
        m.Generate(1, "a/b", [1, 2], 5, [0], m.Sampling()),
        m.Generate(2**62, "m", [], 1, [], m.Sampling(0.5, 0.9, 40, 0.1, 2**64 - 1)),
        m.Embed(2, "e", [[1], [2, 3]]),
        m.Embed(2, "e", [[1]], dimensions=64),
        m.Abort(3),
    ],
    m.EngineToWorker: [
        m.Tokens([m.Update(1, [5, 6], [-0.5, -1e-30]), m.Update(2, [], [], "length")]),
        m.Embedded(1, 2, bytes(range(8))),
        m.Failed(1, "too_large", "caf\u00e9"),
    ],
    m.SupervisorToChild: [
        m.Ping(1),
        m.Connect(0, 7),
        m.Drain(0.5),
        m.Stop(),
        m.Reserved(1, None, 0.0, m.Limit(60, 59, 1.0), None),
        m.Reserved(2, "tokens", 1.5, None, m.Limit(100, 0, 60.0)),
    ],
    m.ChildToSupervisor: [
        m.Pong(1),
        m.Progress("loading"),
        m.Ready(),
        m.Connected(7),
        m.Fatal("no"),
        m.Reserve(1, "anonymous", "a/b", 100),
        m.Settle(1, 0),
    ],
}


@pytest.mark.parametrize("union", UNIONS)
def test_messages_arrive_as_they_were_sent(union):
    decoder = msgspec.msgpack.Decoder(union)
    for message in UNIONS[union]:
        assert decoder.decode(msgspec.msgpack.encode(message)) == message


def test_messages_are_all_covered_here():
    for union, examples in UNIONS.items():
        assert {type(example) for example in examples} == set(get_args(union))


@pytest.mark.parametrize(
    "wrong",
    [
        ["Settle", 1, 2],  # of another conversation
        ["Generate", 1, "m"],
        ["Generate", 1, "m", ["a"], 5, [], [1.0]],
        ["Abort", None],
        [],
        {"uid": 1},
    ],
)
def test_messages_that_are_none_are_refused(wrong):
    with pytest.raises(msgspec.DecodeError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(wrong), type=m.WorkerToEngine)
