"""The messages on the wire."""

from typing import get_args

import msgspec
import pytest

from mlxnode import messages as m
from mlxnode.config.certificate import Certificate
from mlxnode.config.keys import ApiKey

UNIONS = {
    m.WorkerToEngine: [
        m.Generate(
            uid=1,
            model="a/b",
            prompt=[1, 2],
            max_tokens=5,
            stop_ids=[0],
            sampling=m.Sampling(),
        ),
        m.Generate(
            uid=2**62,
            model="m",
            prompt=[],
            max_tokens=1,
            stop_ids=[],
            sampling=m.Sampling(
                temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, seed=2**64 - 1
            ),
        ),
        m.Embed(uid=2, model="e", inputs=[[1], [2, 3]]),
        m.Embed(uid=2, model="e", inputs=[[1]], dimensions=64),
        m.Abort(3),
    ],
    m.EngineToWorker: [
        m.Tokens(
            [
                m.Update(uid=1, tokens=[m.Token(5, -0.5), m.Token(6, -1e-30, {6: -1e-30})]),
                m.Update(uid=2, finish="length", prompt=[m.Token(1, None)], num_cached=1),
            ]
        ),
        m.Embedded(1, 2, bytes(range(8))),
        m.Failed(1, "too_large", "caf\u00e9"),
    ],
    m.SupervisorToChild: [
        m.Ping(1),
        m.Connect(7),
        m.Drain(0.5),
        m.FailedModels({"a": "b"}),
        m.Stop(),
        m.Reserved(1, None, 0.0, m.Limit(60, 59, 1.0), None),
        m.Reserved(2, "tokens", 1.5, None, m.Limit(100, 0, 60.0)),
        m.Reserved(3, "tokens", None, None, m.Limit(100, 100, 0.0)),
        m.Access(keys=[ApiKey("a", b"digest", frozenset({"m"}))], is_limited=True),
        m.Access(keys=[], certificate=Certificate(b"chain", b"key")),
        m.EngineSilent(3.5),
        m.EngineSilent(None),
        m.Suspects([b"a"], [b"b", b"c"], 1, [b"b"]),
    ],
    m.ChildToSupervisor: [
        m.Pong(1),
        m.Progress("loading"),
        m.Ready(),
        m.Connected(7),
        m.StepFailed([b"a"]),
        m.Cleared(b"a"),
        m.Fatal("no"),
        m.Reserve(1, "anonymous", "a/b", 100, 1024),
        m.Used(1, 300),
        m.Settle(1, 0),
        m.Usage("anonymous", "a/b", 100, 40, 7),
        m.Busy(is_busy=True),
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
