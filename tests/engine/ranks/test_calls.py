"""What rank 0 sends of its calls, and what another rank makes of them; without a network."""

import gc
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from support.architectures import build

from mlxnode.engine import mirror
from mlxnode.engine.decode.passes import run_chunk
from mlxnode.engine.kvcache.prompt_cache import new_prompt_cache, num_tokens, trimmed
from mlxnode.engine.kvcache.snapshot import only_plain
from mlxnode.engine.ranks.arguments import pack, unpack
from mlxnode.engine.ranks.calls import Calls, Stray
from mlxnode.engine.ranks.leader import Leader
from mlxnode.errors import ModelError
from mlxnode.messages.message import encode
from mlxnode.messages.ranks import Loaded, LoadPart, NotLoaded, Plan, to_rank
from mlxnode.models.served import ServedModel


class Wire:
    """The ranks of a leader, of which one makes the calls here."""

    size = 2

    def __init__(self) -> None:
        self.group = mx.distributed.init()  # this process alone
        self.ends: list[str] = []
        self.calls = Calls(self.group, self.ends.append)
        self.sent: list[Any] = []
        self.answers: list[tuple[int, Any]] = []

    def send(self, message: Any) -> None:
        message = to_rank.decode(encode(message))
        self.sent.append(message)
        if isinstance(message, Plan):
            self.calls.follow(message)

    def replies(self):
        yield from self.answers
        self.answers = []

    def describe(self, rank: int) -> str:
        return f"rank {rank} (mac-2)"


@pytest.fixture
def wire():
    wire = Wire()
    wire.leader = Leader(wire)
    mirror.install(wire.leader)
    yield wire
    mirror.install(None)


@pytest.fixture
def model(wire) -> nn.Module:
    """A model of rank 0, of which the other rank has another copy."""
    ours, theirs = build("llama"), build("llama")
    wire.leader.adopt(ours, 1_000_000)
    wire.calls.adopt(1_000_000, theirs, weights=7)
    return ours


def test_calls_without_a_shared_object_stay_on_rank_0(wire):
    trimmed(new_prompt_cache(build("llama")), 0)
    assert not wire.sent


def test_the_other_rank_has_the_same_caches_until_rank_0_has_no_reference(wire, model):
    things = wire.calls._things
    cache = new_prompt_cache(model, None)
    run_chunk(model, cache, [5, 6, 7], 2, is_last=True)
    handle = wire.sent[0].calls[0].result
    assert num_tokens(things[handle]) == num_tokens(cache) == 3
    shorter = trimmed(only_plain(cache), 2, copy=True)
    theirs = things[wire.sent[-1].calls[0].result]
    assert num_tokens(theirs) == num_tokens(shorter) == 2
    del cache, shorter
    wire.leader.flush()
    assert list(things) == [1_000_000]
    assert wire.calls.weights == 7


def test_a_model_that_is_gone_on_rank_0_is_released(wire):
    model = build("llama")
    wire.leader.adopt(model, 5)
    wire.calls.adopt(5, build("llama"), weights=7)
    del model
    gc.collect()
    mirror.flush()
    assert not wire.calls._things and wire.calls.weights == 0


_WHERE = {"now": "first"}  # which rank this process plays


@mirror.mirrored
def fail(model: nn.Module, ranks: list[str]) -> None:
    """Fails on some ranks."""
    if _WHERE["now"] in ranks:
        raise ValueError("no")


@pytest.fixture
def play(wire, monkeypatch):
    """The calls of the other rank know that they are made there."""
    follow = wire.calls.follow

    def as_other(plan: Plan) -> None:
        monkeypatch.setitem(_WHERE, "now", "other")
        try:
            follow(plan)
        finally:
            monkeypatch.setitem(_WHERE, "now", "first")

    wire.calls.follow = as_other


def test_a_call_that_fails_on_both_ranks_ends_nothing(wire, model, play):
    with pytest.raises(ValueError):
        fail(model, ["first", "other"])
    fail(model, [])
    assert not wire.ends


def test_a_rank_strays_if_a_call_fails_on_rank_0_alone(wire, model, play):
    with pytest.raises(Stray, match="on rank 0 alone"):
        fail(model, ["first"])


def test_a_rank_strays_if_a_call_fails_there_alone(wire, model, play):
    fail(model, ["other"])
    with pytest.raises(Stray, match="here alone"):
        fail(model, [])


def test_a_rank_ends_if_rank_0_says_nothing_of_a_failure(wire, model, play, monkeypatch):
    monkeypatch.setattr("mlxnode.engine.ranks.calls.AGREE_SECONDS", 0.01)
    fail(model, ["other"])
    wire.calls._patience.join(10)
    [reason] = wire.ends
    assert "fail" in reason and "here alone" in reason and "no" in reason


def test_arguments_travel():
    things = {7: object()}
    handle_of = {id(things[7]): 7}.get
    values = [None, True, 3, 2.5, "text", [1, 2, 3], [[1], [2, 3]], things[7], [things[7], 4]]
    for value in values:
        packed = pack(value, lambda thing: handle_of(id(thing)))
        assert unpack(packed, things, lambda array: array) == value
    packed = pack(mx.ones((2, 3), mx.int32), lambda thing: None)
    array = unpack(packed, things, lambda array: array + 5)
    assert array.dtype == mx.int32 and array.tolist() == [[5] * 3] * 2
    with pytest.raises(TypeError, match="a SimpleNamespace cannot travel"):
        pack(SimpleNamespace(), lambda thing: None)


def order(wire: Wire, tmp_path) -> tuple[int, Any]:
    served = ServedModel(
        id="m",
        type="chat",
        folder=tmp_path,
        weights=tmp_path,
        architecture="llama",
        context_length=512,
        dimensions=None,
        default_temperature=None,
        size_bytes=1,
        created=1,
    )
    handle = wire.leader.load_elsewhere(served, "tensor")
    return handle, wire.leader.wait_for_parts(handle)


def test_rank_0_waits_for_the_parts_of_all(wire, tmp_path):
    handle, waiting = order(wire, tmp_path)
    [sent] = wire.sent
    assert isinstance(sent, LoadPart) and sent.handle == handle and sent.strategy == "tensor"
    assert sent.model.folder == tmp_path
    next(waiting)
    wire.answers = [(1, NotLoaded(handle + 1, "of another load")), (1, Loaded(handle, 6, 7))]
    next(waiting)
    with pytest.raises(StopIteration) as end:
        next(waiting)
    assert end.value.value == [Loaded(handle, 6, 7)]


def test_a_part_that_cannot_be_loaded_fails_the_model_by_the_name_of_the_rank(wire, tmp_path):
    handle, waiting = order(wire, tmp_path)
    wire.answers = [(1, NotLoaded(handle, "there is no disk"))]
    with pytest.raises(ModelError, match=r"rank 1 \(mac-2\): there is no disk"):
        next(waiting)
    wire.leader.release(handle)
    assert wire.sent[-1] == Plan([], [handle])
