from mlxnode.engine.decode.request import Request
from mlxnode.engine.work import RequestKey
from mlxnode.messages.data import Generate, Sampling


def make(max_tokens: int = 3, seed: int | None = 1) -> Request:
    message = Generate(
        uid=5,
        model="m",
        prompt=[10, 11, 12],
        max_tokens=max_tokens,
        stop_ids=[2],
        sampling=Sampling(seed=seed),
    )
    return Request.of(RequestKey(9, 5), message, random_seed=77)


def test_request_is_known_by_pipe_and_uid():
    assert make().key == (9, 5)


def test_request_accept_ends_at_a_stop_id_without_reporting_it():
    request = make()
    assert request.accept(4)
    assert not request.accept(2)
    assert request.finish_reason == "stop"
    assert len(request.tokens) == 2


def test_request_accept_ends_at_max_tokens():
    request = make(max_tokens=2)
    assert request.accept(4)
    assert request.finish_reason is None
    assert request.accept(4)
    assert request.finish_reason == "length"


def test_request_without_a_seed_takes_the_random_one():
    assert make(seed=None).seed == 77
    assert make(seed=0).seed == 0
    assert make(seed=2**64 - 1).seed == 2**64 - 1
