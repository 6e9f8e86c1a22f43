"""The messages on the wire."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from mlxnode.config.certificate import Certificate
from mlxnode.config.keys import ApiKey
from mlxnode.figures import RankFigures, RequestFigures
from mlxnode.messages import control, data
from mlxnode.messages.message import decoder_of, encode
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel

SERVED = ServedModel(
    "a/b", "chat", Path("/m"), Path("/m/w.gguf"), "llama", 512, None, None, 10, 0, (64, 32)
)

UNIONS = {
    data.WorkerToEngine: [
        data.Generate(
            uid=1,
            model="a/b",
            prompt=[1, 2],
            max_tokens=5,
            stop_ids=[0],
            sampling=data.Sampling(),
        ),
        data.Generate(
            uid=2**62,
            model="m",
            prompt=[],
            max_tokens=1,
            stop_ids=[],
            sampling=data.Sampling(
                temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, seed=2**64 - 1
            ),
        ),
        data.Embed(uid=2, model="e", inputs=[[1], [2, 3]]),
        data.Embed(uid=2, model="e", inputs=[[1]], dimensions=64),
        data.Abort(3),
        data.Load(4, "a/b", pin=True),
        data.Unload(5, "a/b"),
    ],
    data.EngineToWorker: [
        data.Tokens(
            [
                data.Update(
                    uid=1, tokens=[data.Token(5, -0.5), data.Token(6, -1e-30, {6: -1e-30})]
                ),
                data.Update(uid=2, finish="length", prompt=[data.Token(1, None)], num_cached=1),
                data.Update(uid=3, timing=data.Timing(0.5, 1.5)),
            ]
        ),
        data.Embedded(1, 2, bytes(range(8))),
        data.Failed(1, "too_large", "caf\u00e9"),
        data.Done(2),
        data.ModelStates({"a/b": "loading"}, ["a/b"]),
    ],
    control.SupervisorToChild: [
        control.Ping(1),
        control.Connect(7),
        control.Drain(0.5),
        control.Drain(0.5, 3.0),
        control.FailedModels({"a": "b"}),
        control.Stop(),
        control.Reserved(1, None, 0.0, control.Limit(60, 59, 1.0), None),
        control.Reserved(2, "tokens", 1.5, None, control.Limit(100, 0, 60.0)),
        control.Reserved(3, "tokens", None, None, control.Limit(100, 100, 0.0)),
        control.Access(keys=[ApiKey("a", b"digest", frozenset({"m"}))], is_limited=True),
        control.Access(keys=[], certificate=Certificate(b"chain", b"key")),
        control.Models(models=[SERVED], types={"a/b": "chat"}, aliases={"b": "a/b"}),
        control.Fits({"a/b": Weighed("yes", "fits", True)}),
        control.EngineSilent(3.5),
        control.EngineSilent(None),
        control.Ranks([RankFigures(rank=1, host="b", state="lost", reason="silent")]),
        control.Suspects([b"a"], [b"b", b"c"], 1, [b"b"]),
        control.Cancel("1-2"),
        control.Wake(),
    ],
    control.ChildToSupervisor: [
        control.Pong(1),
        control.Progress("loading"),
        control.Ready(),
        control.Loaded("a/b"),
        control.LoadFailed({"a/b": "no config.json"}),
        control.Connected(7),
        control.StepFailed([b"a"]),
        control.Cleared(b"a"),
        control.Ranks([]),
        control.Fatal("no"),
        control.Reserve(1, "anonymous", "a/b", 100, 1024),
        control.Used(1, 300),
        control.Settle(1, 0),
        control.Usage("anonymous", "a/b", 100, 40, 7),
        control.Busy(is_busy=True),
        control.Cancel("1-2"),
        control.Wake(),
        control.Pong(
            2,
            num_requests=1,
            requests=[
                RequestFigures(
                    id="1-2",
                    request_id="req_1",
                    key="a",
                    path="/v1/embeddings",
                    model=None,
                    state="preparing",
                    seconds=0.5,
                )
            ],
        ),
    ],
}


@pytest.mark.parametrize("union", UNIONS)
def test_messages_arrive_as_they_were_sent(union):
    decoder = decoder_of(union)
    for message in UNIONS[union]:
        assert decoder.decode(encode(message)) == message


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
        msgspec.msgpack.decode(msgspec.msgpack.encode(wrong), type=data.WorkerToEngine)
