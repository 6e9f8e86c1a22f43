"""Prefixes of models whose caches cannot be cut: what is found, and that no token changes."""

import functools
import random

import pytest
from support.architectures import build
from support.running import make, make_runner, run, step

from mlxnode.engine.decode import snapshot_plan
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.decode.snapshot_plan import NEAR
from mlxnode.engine.work import RequestKey

# States beside attention, windows, windows with sinks, Mamba, convolutions, states alone,
# combined layers.
FAMILIES = ["qwen3_5", "gemma3_text", "gpt_oss", "nemotron_h", "lfm2"]
OTHERS = ["mamba2", "falcon_h1", "qwen3_next", "llama4", "deepseek_v32", "olmo3"]

model_of = functools.cache(build)


def text(seed: int, length: int) -> list[int]:
    chosen = random.Random(seed)
    return [chosen.randrange(3, 250) for _ in range(length)]


SYSTEM, QUESTION, OTHER_QUESTION = text(1, 150), text(2, 80), text(3, 80)
TAIL, THOUGHT = text(4, 4), text(5, 30)  # of the generation prompt; of the answer


def ask(*parts: list[int], uid: int = 1, max_tokens: int = 6) -> Request:
    """A request of messages, with the borders that a worker would send."""
    request = make(uid, max_tokens=max_tokens)
    request.key = RequestKey(1, uid)
    request.prompt = [token for part in parts for token in part]
    ends = [sum(map(len, parts[:i])) for i in range(1, len(parts))]
    request.borders = [end for end in ends if end < len(request.prompt)]
    return request


def answer(runner: TextRunner, request: Request) -> list[int]:
    return run(runner, request)[request.key.uid]


def cold(name: str, request: Request) -> list[int]:
    """The answer of a runner that caches no prefixes, and processes the prompt in one chunk."""
    alone = ask(request.prompt, uid=request.key.uid, max_tokens=request.max_tokens)
    return answer(make_runner(model_of(name), prefix_cache_gb=0.0), alone)


def check(name: str, runner: TextRunner, request: Request, common: int) -> None:
    assert answer(runner, request) == cold(name, request)
    assert common - NEAR < request.num_cached <= common


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES + OTHERS)
def test_prefixes_of_a_chat_are_found_and_change_no_token(name):
    runner = make_runner(model_of(name))
    first = [SYSTEM, QUESTION, TAIL]
    length = sum(map(len, first))
    check(name, runner, request := ask(*first), 0)
    told = request.tokens
    check(name, runner, again := ask(*first), length)
    assert again.num_cached == length  # with its logits: no pass at all
    turn = [SYSTEM, QUESTION, TAIL + told, OTHER_QUESTION, TAIL]
    check(name, runner, ask(*turn), length + len(told))
    # The thought of the answer, and the tail before it, are no part of the history.
    check(name, runner, ask(SYSTEM, QUESTION, THOUGHT, TAIL), sum(map(len, (SYSTEM, QUESTION))))
    check(name, runner, ask(SYSTEM, OTHER_QUESTION, TAIL), len(SYSTEM))
    edited = [*OTHER_QUESTION[:40], *text(9, 30)]
    check(name, runner, ask(SYSTEM, edited, TAIL), len(SYSTEM) + 40)


@pytest.mark.parametrize("name", ["lfm2", "gpt_oss"])
def test_a_prompt_without_borders_has_snapshots_at_intervals(name, monkeypatch):
    monkeypatch.setattr(snapshot_plan, "INTERVAL", 64)
    runner = make_runner(model_of(name))
    prompt = text(1, 300)
    answer(runner, ask(prompt))
    for common in (280, 200, 100):
        other = ask([*prompt[:common], *text(common, 20)])
        assert answer(runner, other) == cold(name, other)
        assert common - 64 <= other.num_cached <= common


@pytest.mark.parametrize("name", ["lfm2", "gpt_oss"])
def test_where_one_prompt_parted_the_next_one_is_found_in_full(name, monkeypatch):
    monkeypatch.setattr(snapshot_plan, "INTERVAL", 100)
    runner = make_runner(model_of(name))
    requests = [ask([*text(1, 290), *text(uid, 90)]) for uid in range(2, 5)]
    for request in requests:
        answer(runner, request)
    assert [request.num_cached for request in requests] == [0, 200, 290]


@pytest.mark.parametrize("name", ["lfm2", "gpt_oss", "mamba2"])
def test_prompts_that_wait_for_a_shared_prefix_get_all_of_it(name):
    runner = make_runner(model_of(name))
    shared = text(1, 200)
    requests = [ask([*shared, *text(uid, 20)], uid=uid) for uid in range(10, 14)]
    together = run(runner, *requests)
    assert [request.num_cached for request in requests[1:]] == [200] * 3
    for request in requests:
        assert together[request.key.uid] == cold(name, request)


@pytest.mark.parametrize("name", ["lfm2", "gpt_oss", "mamba2"])
def test_candidates_start_from_the_prompt_that_the_first_one_processed(name):
    runner = make_runner(model_of(name))
    requests = [ask(SYSTEM, TAIL, uid=uid) for uid in range(4)]
    together = run(runner, *requests)
    assert [request.num_cached for request in requests] == [0, *[len(SYSTEM + TAIL)] * 3]
    assert list(together.values()) == [cold(name, requests[0])] * 4


@pytest.mark.parametrize("name", ["lfm2", "gpt_oss", "qwen3"])
def test_a_request_that_is_cancelled_in_prefill_leaves_its_part(name):
    runner = make_runner(model_of(name), prefill_stall_ms=1)
    request = ask(text(1, 400))
    runner.add_request(request)
    runner._pacing.chunk_size = lambda **_: 100
    while request.num_prefilled < 200:
        step(runner)
    runner.abort(request.key)
    assert not runner.has_work
    again = ask(text(1, 400))
    assert answer(runner, again) == cold(name, again)
    assert again.num_cached == 200


@pytest.mark.parametrize("name", ["lfm2", "gpt_oss"])
@pytest.mark.parametrize("steps", range(1, 5))
def test_a_row_that_is_aborted_leaves_no_state_after_unread_tokens(name, steps):
    runner = make_runner(model_of(name))
    request = ask(SYSTEM, QUESTION, max_tokens=50)
    runner.add_request(request)
    while len(request.tokens) < steps:
        step(runner)
    runner.abort(request.key)
    while runner.has_work:
        step(runner)
    turn = ask(SYSTEM, QUESTION + request.tokens, THOUGHT)
    assert answer(runner, turn) == cold(name, turn)
    assert turn.num_cached >= len(SYSTEM + QUESTION)


@pytest.mark.parametrize("name", ["lfm2", "gpt_oss"])
def test_an_answer_that_ends_with_a_stop_id_is_continued(name):
    told = cold(name, ask(SYSTEM, QUESTION, max_tokens=20))
    stop = told[3]
    runner = make_runner(model_of(name))
    request = ask(SYSTEM, QUESTION, max_tokens=20)
    request.stop_ids = frozenset([stop])
    run(runner, request)
    assert request.tokens[-1] == stop
    turn = ask(SYSTEM, QUESTION + request.tokens, THOUGHT)
    assert answer(runner, turn) == cold(name, turn)
    assert turn.num_cached >= len(SYSTEM + QUESTION + request.tokens) - 1


def test_snapshots_keep_to_their_own_limit():
    limit = 100_000
    runner = make_runner(model_of("lfm2"), snapshot_cache_gb=limit / 1e9)
    prefixes, budget = runner._prefixes, runner._prefixes._budget
    for uid in range(30):
        run(runner, ask(text(uid, 80), text(uid + 100, 70), TAIL, uid=uid))
        assert prefixes._pool.nbytes <= limit
        assert budget.claimed >= prefixes.nbytes
    held = {id(s): s.nbytes for entry in prefixes._finished for s in entry.snapshots}
    assert sum(held.values()) == prefixes._pool.nbytes > 0
    assert 0 < prefixes.num_entries < 30
    runner.drop_caches()
    assert prefixes.nbytes == budget.claimed == 0


def test_without_memory_for_snapshots_prompts_are_processed_as_one():
    runner = make_runner(model_of("lfm2"), snapshot_cache_gb=0.0)
    request, again = ask(SYSTEM, QUESTION), ask(SYSTEM, QUESTION)
    answer(runner, request)
    assert not request.stops and runner._prefixes.nbytes == 0
    assert answer(runner, again) == request.tokens and again.num_cached == 0
