from mlxnode.engine.request import Request
from mlxnode.messages import Generate, Sampling


def make(max_tokens: int = 3, seed: int | None = 1) -> Request:
    message = Generate(5, "m", [10, 11, 12], max_tokens, [2], Sampling(seed=seed))
    return Request.of(9, message, random_seed=77)


def test_request_is_known_by_pipe_and_uid():
    assert make().key == (9, 5)


def test_request_accept_ends_at_a_stop_id_without_reporting_it():
    request = make()
    assert request.accept(4)
    assert not request.accept(2)
    assert request.finish_reason == "stop"
    assert request.num_generated == 2


def test_request_accept_ends_at_max_tokens():
    request = make(max_tokens=2)
    assert request.accept(4)
    assert request.finish_reason is None
    assert request.accept(4)
    assert request.finish_reason == "length"


def test_request_draw_depends_on_seed_and_position_alone():
    def draws(seed):
        request = make(seed=seed)
        result = []
        for _ in range(1000):
            result.append(request.draw())
            request.num_launched += 1
        return result

    first = draws(1)
    assert first == draws(1)
    assert not set(first) & set(draws(2)[:50])
    assert all(0 <= u < 1 and (u * 2**23).is_integer() for u in first)
    assert abs(sum(first) / 1000 - 0.5) < 0.04  # 4 standard errors


def test_request_without_a_seed_takes_the_random_one():
    assert make(seed=None).draw() == make(seed=77).draw()
    assert make(seed=0).draw() != make(seed=None).draw()
