"""Reasoning that ends at its limit: what is forced, when, and what stays as it was."""

import re

import mlx.core as mx
import msgspec
import pytest
from llguidance import LLMatcher
from support.running import ids_of, make, make_runner, run, step, updates
from tokenizers import Tokenizer

from mlxnode.engine.decode.prompt_lookup import DraftBudget
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.thinking import Thinking
from mlxnode.kernels.backend import METAL, OPS
from mlxnode.messages.data import ThinkingLimit

START, END = [300], [301, 302]  # that no greedy text of the tiny model has
CLOSING = [40, 41, 42]
RECLOSING = [42]


def limit(max_tokens: int, *, is_open: bool = True, **changes) -> ThinkingLimit:
    """A limit. A marker is given as lists of tokens, each a spelling."""
    fields = {"starts": [START], "ends": [END], "closing": CLOSING, "reclosing": RECLOSING}
    fields |= changes
    for name in ("starts", "ends"):
        fields[name] = [[[id] for id in spelling] for spelling in fields[name]]
    return ThinkingLimit(max_tokens=max_tokens, is_open=is_open, **fields)


def text_after(prompt: list[int], count: int) -> list[int]:
    """The greedy text of the model after ``prompt``, as the tests' own request."""
    request = make(0, max_tokens=count)
    request.prompt = prompt
    return request


# --- the state ----------------------------------------------------------------------


def fed(thinking: Thinking, *tokens: int) -> int | None:
    for token in tokens:
        thinking.accept(token)
    return thinking.forced_token


def test_thinking_is_closed_after_as_many_tokens_as_the_limit():
    for max_tokens in range(4):
        thinking = Thinking(limit(max_tokens))
        for token in range(max_tokens):
            assert thinking.forced_token is None
            thinking.accept(token)
        for token in CLOSING:
            assert thinking.forced_token == token
            thinking.accept(token)
        assert fed(thinking, *range(30)) is None


def test_thinking_that_ends_by_itself_is_left_alone():
    assert fed(Thinking(limit(5)), 1, 2, *END, *range(30)) is None
    assert fed(Thinking(limit(4)), 1, 2, *END) is None
    assert fed(Thinking(limit(3)), 1, 2, END[0]) == CLOSING[0]


def test_thinking_that_never_starts_is_left_alone():
    assert fed(Thinking(limit(0, is_open=False)), *range(30)) is None
    assert fed(Thinking(limit(0, is_open=False)), *END) is None


def test_thinking_starts_with_its_marker():
    thinking = Thinking(limit(2, is_open=False, starts=[[7, 8], [9]]))
    assert fed(thinking, 7, 9) is None  # [9] is one of the starts
    assert fed(thinking, 1) is None
    assert fed(thinking, 2) == CLOSING[0]
    assert fed(Thinking(limit(0, is_open=False, starts=[[7, 8], [9]])), 7, 8) == CLOSING[0]
    assert fed(Thinking(limit(0, is_open=False, starts=[[7, 8]])), 7, 1, 8) is None


def test_a_marker_may_be_spelled_in_several_ways():
    ends = [[[1, 2], [3], [4, 5]], [[6, 7]]]
    for written in ([1, 3, 4], [2, 3, 5], [0, 1, 3, 5], [6], [9, 7]):
        thinking = Thinking(msgspec.structs.replace(limit(4), ends=ends))
        assert fed(thinking, *written, *range(10, 20)) is None, written
    for written in ([1, 4], [3, 4], [3, 1, 4], [1, 3, 3, 4]):
        thinking = Thinking(msgspec.structs.replace(limit(4), ends=ends))
        assert fed(thinking, *written, *range(10, 20)) == CLOSING[0], written


def test_thinking_that_starts_again_counts_on():
    thinking = Thinking(limit(5))
    assert fed(thinking, 1, *END) is None  # three tokens
    assert fed(thinking, *range(20), *START, 1) is None
    assert fed(thinking, 2) == CLOSING[0]


def test_thinking_that_starts_again_after_the_limit_ends_at_once():
    thinking = Thinking(limit(1))
    assert fed(thinking, 1, *CLOSING) is None
    for _ in range(3):
        assert fed(thinking, 5, *START) == RECLOSING[0]
        assert fed(thinking, *RECLOSING) is None


def test_thinking_closes_anew_where_a_grammar_did_not_allow_it():
    thinking = Thinking(limit(0))
    assert fed(thinking, CLOSING[0], 5) == CLOSING[0]
    assert fed(thinking, *END) is None


def test_thinking_leaves_to_a_grammar_what_follows_the_end():
    closing = [40, *END, 43, 44]
    thinking = Thinking(limit(0, closing=closing))
    assert fed(thinking, 40, *END) == 43
    assert fed(thinking, 7) is None
    assert fed(thinking, 8, *START) == RECLOSING[0]


def test_a_closing_may_hold_the_end_and_go_on():
    closing = [40, *END, 43, 44]
    thinking = Thinking(limit(0, closing=closing))
    for token in closing:
        assert thinking.forced_token == token
        thinking.accept(token)
    assert thinking.forced_token is None


def test_without_a_closing_nothing_is_forced():
    assert fed(Thinking(limit(0, closing=[])), *range(9)) is None


# --- in the runner ------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [OPS, METAL], ids=["ops", "emulated"])
@pytest.mark.parametrize("max_tokens", [0, 1, 7])
def test_runner_closes_at_the_limit_and_goes_on(model, emulated, kernels, max_tokens):
    free = run(make_runner(model), make(0))[0]
    limited = run(make_runner(model, kernels), make(0, thinking=limit(max_tokens)))[0]
    start = [*free[:max_tokens], *CLOSING]
    assert limited[: len(start)] == start
    assert len(limited) == 20
    after = text_after([*make(0).prompt, *start], 20 - len(start))
    assert limited[len(start) :] == run(make_runner(model), after)[0]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "top_k": 9, "min_p": 0.2}])
def test_runner_forces_whatever_the_sampling(model, sampling):
    options = {"logit_bias": dict.fromkeys(CLOSING, -100.0), "frequency_penalty": 2.0}
    request = make(0, thinking=limit(4), **options | sampling)
    assert run(make_runner(model), request)[0][4:7] == CLOSING


def test_runner_does_not_close_what_ended_by_itself(model):
    free = run(make_runner(model), make(0))[0]
    at = next(i for i in range(2, 20) if free[i] not in free[:i])
    ends = [[free[at]]]
    assert run(make_runner(model), make(0, thinking=limit(at + 1, ends=ends)))[0] == free
    early = run(make_runner(model), make(0, thinking=limit(at, ends=ends)))[0]
    assert early[: at + 3] == [*free[:at], *CLOSING]


def test_runner_counts_from_the_start_of_the_reasoning(model):
    free = run(make_runner(model), make(0))[0]
    at = next(i for i in range(2, 12) if free[i] not in free[:i])
    thinking = limit(3, is_open=False, starts=[[free[at]]])
    limited = run(make_runner(model), make(0, thinking=thinking))[0]
    assert limited[: at + 7] == [*free[: at + 4], *CLOSING]
    absent = next(token for token in range(3, 259) if token not in free)
    thinking = limit(0, is_open=False, starts=[[absent]])
    assert run(make_runner(model), make(0, thinking=thinking))[0] == free


def test_runner_other_rows_do_not_notice(model):
    others = [
        {"temperature": 1.0},
        {"temperature": 1.0, "frequency_penalty": 1.0, "min_tokens": 4},
        {"grammar": LLMatcher.grammar_from_regex("[a-z ]{5,15}")},
        {"thinking": limit(9), "temperature": 0.7},
    ]

    def requests() -> list[Request]:
        return [make(uid, stop=[2], **options) for uid, options in enumerate(others, start=1)]

    together = run(make_runner(model), make(0, thinking=limit(3)), *requests())
    assert together[0][3:6] == CLOSING and together[4][9:12] == CLOSING
    for request in requests():
        assert run(make_runner(model), request)[request.key.uid] == together[request.key.uid]


def test_runner_candidates_of_one_prompt_are_limited_each(model):
    choices = [
        make(0, temperature=1.5, seed=seed, thinking=limit(4), prompt=50) for seed in range(3)
    ]
    for uid, request in enumerate(choices):
        request.key = request.key._replace(uid=uid)
    tokens = run(make_runner(model), *choices)
    assert all(tokens[uid][4:7] == CLOSING for uid in range(3))
    assert len({tuple(tokens[uid]) for uid in range(3)}) == 3


def test_runner_starts_the_grammar_after_the_forced_end(model):
    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    request = make(
        0,
        stop=[2],
        thinking=limit(5),
        grammar=LLMatcher.grammar_from_regex("[ab]{3}"),
        grammar_after=[[[id] for id in CLOSING[1:]]],
    )
    tokens = run(make_runner(model), request)[0]
    assert tokens[5:8] == CLOSING
    assert re.fullmatch("[ab]{3}", tokenizer.decode(tokens[8:]))
    assert request.finish_reason == "stop"


def test_runner_leaves_to_a_grammar_what_it_does_not_allow(model):
    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    grammar = LLMatcher.grammar_from_regex("[ab]{6}")
    assert not set("ab") & set(tokenizer.decode(CLOSING))
    request = make(0, stop=[2], thinking=limit(2), grammar=grammar)
    assert re.fullmatch("[ab]{6}", tokenizer.decode(run(make_runner(model), request)[0]))
    # ... and follows one that allows the closing.
    grammar = LLMatcher.grammar_from_regex(r"(.|\n){12}")
    request = make(0, stop=[2], thinking=limit(2), grammar=grammar)
    assert run(make_runner(model), request)[0][2:5] == CLOSING


@pytest.mark.parametrize("kernels", [OPS, METAL], ids=["ops", "emulated"])
def test_runner_reports_the_logprobs_of_the_model(model, emulated, kernels):
    request = make(0, thinking=limit(3), top_logprobs=2, temperature=0.8, logit_bias={41: -9.0})
    emitted = updates(make_runner(model, kernels), request)
    tokens = [token for update in emitted for token in update.tokens]
    assert [token.id for token in tokens[3:6]] == CLOSING
    ids = [token.id for token in tokens]
    logits = model(mx.array([[*request.prompt, *ids]]))[0]
    expected = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    for i, token in enumerate(tokens):
        row = expected[len(request.prompt) - 1 + i]
        assert token.logprob == pytest.approx(row[token.id].item(), abs=1e-3)
        assert next(iter(token.top_logprobs)) == mx.argmax(row).item()


@pytest.mark.parametrize("max_tokens", range(1, 9))
def test_runner_ends_at_max_tokens_also_within_the_closing(model, max_tokens):
    whole = run(make_runner(model), make(0, thinking=limit(3)))[0]
    request = make(0, max_tokens=max_tokens, thinking=limit(3))
    assert run(make_runner(model), request)[0] == whole[:max_tokens]
    assert request.finish_reason == "length"


def test_runner_forces_a_stop_id_that_min_tokens_holds_back(model):
    request = make(0, stop=CLOSING[2:], min_tokens=15, thinking=limit(3))
    tokens = run(make_runner(model), request)[0]
    assert tokens[3:] == CLOSING[:2]
    assert request.finish_reason == "stop"


def test_runner_abort_within_the_closing_leaves_the_others(model):
    runner = make_runner(model)
    gone, stays = make(0, thinking=limit(2)), make(1, thinking=limit(6))
    runner.add_request(gone)
    runner.add_request(stays)
    tokens: list[int] = []
    while runner.has_work:
        for output in step(runner):
            if output.message.uid == 1:
                tokens += ids_of(output)
        if gone.forced_token == CLOSING[1]:
            runner.abort(gone.key)
    assert gone.is_aborted and len(gone.tokens) <= 4
    assert tokens == run(make_runner(model), make(1, thinking=limit(6)))[1]


# --- with drafts --------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch):
    """Drafts are tried whatever they cost."""
    monkeypatch.setattr(DraftBudget, "permits", lambda self, rows: True)


@pytest.mark.parametrize("max_tokens", [0, 5, *range(9, 20)])
def test_drafts_do_not_pass_the_limit(model, eager, max_tokens):
    """The text repeats itself, so that drafts reach beyond the limit, and go on after it."""
    options = {"logit_bias": {50: 100.0}, "max_tokens": 60}
    closing = [50, 50, 42]  # as the drafts have it
    thinking = limit(max_tokens, closing=closing)
    runner = make_runner(model, num_speculative_tokens=8)
    tokens = run(runner, make(0, thinking=thinking, **options))[0]
    assert tokens == [*[50] * (max_tokens + 2), 42, *[50] * (57 - max_tokens)]
    assert tokens == run(make_runner(model), make(0, thinking=thinking, **options))[0]


@pytest.mark.long
def test_drafts_that_start_the_reasoning_do_not_pass_the_limit(model, eager):
    options = {"logit_bias": dict.fromkeys(range(50, 53), 60.0), "max_tokens": 80}
    free = run(make_runner(model), make(0, **options))[0]
    for start in set(free):
        for max_tokens in range(6):
            thinking = limit(max_tokens, is_open=False, starts=[[start]])
            drafted = make(0, thinking=thinking, **options)
            plain = make(0, thinking=thinking, **options)
            runner = make_runner(model, num_speculative_tokens=8)
            assert run(runner, drafted, make(1, **options)) == run(
                make_runner(model), plain, make(1, **options)
            )


def test_a_limit_that_is_not_reached_asks_for_no_mask(model, monkeypatch):
    masks: list[object] = []
    module = "mlxnode.engine.decode.sampling.TokenMasks.of"
    monkeypatch.setattr(module, lambda *args: masks.append(args))
    thinking = limit(20)
    tokens = run(make_runner(model), make(0, thinking=thinking), make(1))
    assert not masks
    assert tokens == run(make_runner(model), make(0), make(1))
