"""Keys share the rows of a runner: steps and tokens are counted, on tiny models."""

import pytest
from llguidance import LLMatcher
from support import architectures
from support.running import collect, make, make_runner, mixed, run

from mlxnode.engine.decode.request import Request, Stage
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.work import RequestKey

ROWS = 4
FLOOD = 40


def of(key: str, uid: int, call: int = 0, priority: int = 0, **parameters) -> Request:
    owner = {"key": key, "call": call, "priority": priority}
    return make(uid, owner=owner, **parameters)


def steps_until_done(runner: TextRunner, request: Request) -> tuple[int, dict[int, list[int]]]:
    """How many steps the request takes from now on, and the tokens of all meanwhile."""
    tokens: dict[int, list[int]] = {}
    runner.add_request(request)
    for count in range(1, 2000):
        collect(runner, tokens)
        if request.has_ended:
            return count, tokens
    raise AssertionError("the request does not end")


def flooded(model, flood: list[Request], **config) -> TextRunner:
    """A runner whose rows are all taken, and whose queue is not empty."""
    runner = make_runner(model, max_batch_size=ROWS, **config)
    for request in flood:
        assert runner.add_request(request) is None
    while runner.num_running < ROWS:
        collect(runner, {})
    return runner


def many_calls(**parameters) -> list[Request]:
    return [of("flood", uid, call=uid + 1, **parameters) for uid in range(FLOOD)]


def one_call(**parameters) -> list[Request]:
    return [of("flood", uid, call=1, **parameters) for uid in range(FLOOD)]


@pytest.mark.parametrize("flood", [many_calls, one_call])
@pytest.mark.parametrize("prompt", [5, 60])
def test_another_key_takes_twice_the_steps_that_it_takes_alone_at_most(model, flood, prompt):
    alone, _ = steps_until_done(make_runner(model), of("other", 99, prompt=12, max_tokens=10))
    runner = flooded(model, flood(prompt=prompt, max_tokens=200))
    count, _ = steps_until_done(runner, of("other", 99, prompt=12, max_tokens=10))
    assert count <= 2 * alone


def test_another_request_of_a_key_does_not_wait_for_the_sequences_of_one(model):
    alone, _ = steps_until_done(make_runner(model), of("flood", 99, max_tokens=10))
    runner = flooded(model, one_call(max_tokens=200))
    count, _ = steps_until_done(runner, of("flood", 99, call=2, max_tokens=10))
    assert count <= 2 * alone


def test_prompts_of_a_flood_do_not_hold_up_the_prompt_of_another_key(model):
    """All rows belong to prompts that are not complete, each shorter than the other key's."""
    alone, _ = steps_until_done(
        make_runner(model, prefill_stall_ms=1), of("other", 99, prompt=200, max_tokens=2)
    )
    runner = make_runner(model, max_batch_size=32, prefill_stall_ms=1)
    for uid in range(64):
        runner.add_request(of("flood", uid, call=uid + 1, prompt=150, max_tokens=5))
    collect(runner, {})
    count, _ = steps_until_done(runner, of("other", 99, prompt=200, max_tokens=2))
    assert count <= 2 * alone + 8


def test_a_request_holds_no_memory_for_an_answer_that_is_not_there_yet(model):
    """Its client allows more tokens than the whole memory holds."""
    alone, _ = steps_until_done(make_runner(model), of("other", 99, max_tokens=10))
    runner = make_runner(model, budget=3_000_000)
    long = of("long", 1, max_tokens=10**6)
    runner.add_request(long)
    assert 2000 < long.max_tokens < 10**6
    for _ in range(5):
        collect(runner, {})
    count, tokens = steps_until_done(runner, of("other", 99, max_tokens=10))
    assert count <= 2 * alone
    assert len(tokens[1]) >= count - 1  # it went on meanwhile


def test_rows_that_the_memory_does_not_hold_go_on_with_the_same_tokens(model):
    """Answers grow together beyond the memory: some wait until others have ended."""
    runner = make_runner(model, budget=1_000_000)
    runner._scheduler._answer_step = 16
    requests = [of("ab"[uid % 2], uid, call=uid, max_tokens=300) for uid in range(6)]
    most = 0
    for request in requests:
        runner.add_request(request)
    tokens: dict[int, list[int]] = {}
    while runner.has_work:
        collect(runner, tokens)
        most = max(most, runner.num_running)
    assert most == 6 and sum(request.is_resumed for request in requests) >= 2
    for uid in range(6):
        assert tokens[uid] == run(make_runner(model), make(uid, max_tokens=300))[uid]
    assert runner._scheduler._budget.claimed == runner._prefixes.nbytes


def test_rows_that_were_lost_go_on_with_the_same_tokens(model):
    """Keys that come one after the other take rows again and again; nobody's tokens change."""
    runner = make_runner(model, max_batch_size=3)
    flood = []
    for uid in range(9):
        request = mixed(uid)
        request.owner = request.owner._replace(key="flood", call=(1, uid % 2))
        flood.append(request)
        runner.add_request(request)
    tokens: dict[int, list[int]] = {}
    for turn in range(12):
        for _ in range(3):
            collect(runner, tokens)
        runner.add_request(of(f"key {turn % 3}", 100 + turn, max_tokens=2 + turn % 4))
    while runner.has_work:
        collect(runner, tokens)
    assert sum(request.is_resumed for request in flood) >= 2
    for uid in range(9):
        assert tokens[uid] == run(make_runner(model), mixed(uid))[uid]
    assert runner._scheduler._budget.claimed == runner._prefixes.nbytes


@pytest.mark.parametrize("prefix_cache_gb", [0.0, None])
@pytest.mark.parametrize("name", ["gpt_oss", "gemma3n", "qwen3_5", "mamba"])
def test_rows_of_every_kind_of_cache_go_on_with_the_same_tokens(name, prefix_cache_gb):
    model = architectures.build(name)
    runner = make_runner(model, max_batch_size=2, prefix_cache_gb=prefix_cache_gb)
    flood = [of("flood", uid, call=1, prompt=9 + 20 * uid, max_tokens=30) for uid in range(2)]
    for request in flood:
        runner.add_request(request)
    tokens: dict[int, list[int]] = {}
    while len(tokens.get(1, [])) < 5:
        collect(runner, tokens)
    runner.add_request(of("other", 99, max_tokens=4))
    while runner.has_work:
        collect(runner, tokens)
    assert any(request.is_resumed for request in flood)
    for request in flood:
        alone = of("flood", request.key.uid, prompt=len(request.prompt), max_tokens=30)
        assert tokens[request.key.uid] == run(make_runner(model), alone)[request.key.uid]


def test_a_row_that_was_lost_reports_the_cached_tokens_of_its_prompt_alone(model):
    runner = flooded(model, one_call(prompt=50, max_tokens=30))
    steps_until_done(runner, of("other", 99))
    while runner.has_work:
        collect(runner, {})
    figures = runner.figures()
    assert figures.prompt_tokens == FLOOD * 50 + 12
    assert figures.generated_tokens == FLOOD * 30 + 20
    assert figures.cached_tokens == 0


def test_an_aborted_request_that_had_lost_its_row_leaves_nothing(model):
    runner = flooded(model, one_call(max_tokens=200))
    runner.add_request(of("other", 99, max_tokens=100))
    collect(runner, {})
    lost = [r for r in runner._requests.values() if r.is_resumed]
    assert len(lost) == 1 and lost[0].stage is Stage.WAITING
    for uid in [*range(FLOOD), 99]:
        runner.abort(RequestKey(1, uid))
    while runner.has_work:
        collect(runner, {})
    assert runner._scheduler.num_waiting == 0
    assert runner._scheduler._budget.claimed == runner._prefixes.nbytes


def test_interactive_requests_take_the_rows_of_a_batch_job_but_one(model):
    runner = flooded(model, [of("job", uid, priority=10, max_tokens=200) for uid in range(8)])
    for uid in range(20, 28):
        runner.add_request(of("chat", uid, max_tokens=50))
    collect(runner, {})
    keys = [request.owner.key for request in runner._scheduler._admitted.values()]
    assert sorted(keys) == ["chat", "chat", "chat", "job"]


def test_constraints_penalties_and_logprobs_survive_the_loss_of_a_row(model):
    def requests() -> list[Request]:
        settings = [
            {"repetition_penalty": 1.3, "frequency_penalty": 0.5},
            {"temperature": 1.0, "top_logprobs": 2},
            {"grammar": LLMatcher.grammar_from_regex("[a-z]{26,30}"), "stop": [2]},
            {"scores_prompt": True, "top_logprobs": 1},
        ]
        return [of("flood", uid, call=1, max_tokens=25, **s) for uid, s in enumerate(settings)]

    runner = flooded(model, requests())
    tokens: dict[int, list[int]] = {}
    for turn in range(6):  # each takes another row: the one with the fewest tokens
        runner.add_request(of(f"key {turn}", 50 + turn, max_tokens=6))
    lost = {r for r in runner._requests.values() if r.owner.key == "flood"}
    while runner.has_work:
        collect(runner, tokens)
    assert sum(request.is_resumed for request in lost) >= 2
    for request in lost:
        [alone] = [r for r in requests() if r.key == request.key]
        assert request.tokens == run_alone(model, alone)


def run_alone(model, request: Request) -> list[int]:
    run(make_runner(model), request)
    return request.tokens
