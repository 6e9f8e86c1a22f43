"""Drafts: what is guessed, when it is tried, and that it changes no text."""

import mlx.core as mx
import pytest
from mlx import nn
from support.running import ids_of, make, make_runner, run, step

from mlxnode.engine.decode.prompt_lookup import DraftBudget, Drafter
from mlxnode.engine.decode.request import Request
from mlxnode.kernels.backend import METAL, OPS


def fed(prompt: list[int], *tokens: int) -> Drafter:
    drafter = Drafter(prompt)
    for token in tokens:
        drafter.add(token)
    return drafter


TEXT = [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_text_is_guessed_to_go_on_as_it_did_before():
    assert fed([*TEXT, 1, 2, 3], 4, 5).draft(3) == [6, 7, 8]
    assert fed([*TEXT, 0], 1, 2, 3, 4, 5).draft(3) == [6, 7, 8]


def test_nothing_is_guessed_of_what_is_new():
    assert fed([1, 2]).draft(4) == []
    assert fed(TEXT, *range(10, 20)).draft(4) == []


def test_a_guess_is_acted_upon_once_others_came_true():
    assert fed([*TEXT, 1, 2, 3]).draft(4) == []
    assert fed([*TEXT, 1, 2, 3], 4).draft(4) == []
    assert fed([*TEXT, 1, 2, 3], 4, 5).draft(4) == [6, 7, 8, 9]
    assert fed([*TEXT, 1, 2, 3], 4, 5, 0).draft(4) == []


def test_drafts_grow_with_the_guesses_that_came_true():
    text = [*range(100), 0, 1, 2]
    assert len(fed(text, 3, 4).draft(99)) == 4
    assert len(fed(text, 3, 4, 5, 6).draft(99)) == 8


def test_a_pattern_is_guessed_beyond_the_end_of_the_text():
    assert fed([7, 8, 9, 7, 8, 9], 7, 8, 9).draft(6) == [7, 8, 9, 7, 8, 9]


def test_the_latest_occurrence_counts():
    assert fed([1, 2, 3, 4, 0, 1, 2, 3, 5, 6, 7, 0, 1, 2, 3], 5, 6).draft(1) == [7]


def test_draft_budget_lets_losses_add_up_to_a_share_of_the_time():
    budget, time, lost = DraftBudget(), 0.0, 0.0
    assert not budget.permits(1)  # not before it is known what a plain step takes
    for _ in range(10_000):
        if budget.permits(1):
            budget.observe(1, 1.5, 1, is_drafted=True)  # half as long again, for nothing
            time, lost = time + 1.5, lost + 0.5
        else:
            budget.observe(1, 1.0, 1, is_drafted=False)
            time += 1.0
    assert 0.02 < lost / (time - lost) < 0.031


def test_draft_budget_goes_on_while_drafts_save_time():
    budget = DraftBudget()
    budget.observe(2, 1.0, 2, is_drafted=False)
    for _ in range(100):
        assert budget.permits(2)
        budget.observe(2, 1.5, 4, is_drafted=True)
    assert not budget.permits(3)
    for _ in range(50):  # what was saved up is bounded
        budget.observe(2, 1.5, 2, is_drafted=True)
    assert not budget.permits(2)


# --- in the runner ------------------------------------------------------------------


class Steps(nn.Module):
    """A model that counts its forward passes by the tokens of a row, behind the prompts."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.widths: list[int] = []

    @property
    def layers(self):
        return self.inner.layers

    def __call__(self, tokens: mx.array, cache=None) -> mx.array:
        self.widths.append(tokens.shape[1])
        return self.inner(tokens, cache=cache)


@pytest.fixture
def eager(monkeypatch):
    """Drafts are tried whatever they cost."""
    monkeypatch.setattr(DraftBudget, "permits", lambda self, rows: True)


def repetitive(uid: int, **options) -> Request:
    """A request whose answer has few different tokens: it comes round again, often enough."""
    few = {"logit_bias": {token: 60.0 for token in range(50, 53)}}
    return make(uid, **{"prompt": 12, "max_tokens": 60} | few | options)


@pytest.mark.parametrize("kernels", [OPS, METAL], ids=["ops", "emulated"])
@pytest.mark.parametrize("bits", [None, 8])
def test_drafts_save_passes_and_change_no_text(model_of, eager, emulated, kernels, bits):
    model = model_of(64)
    counting = Steps(model)
    runner = make_runner(counting, kernels, num_speculative_tokens=8, kv_cache_bits=bits)
    texts = run(runner, repetitive(0))
    assert texts == run(make_runner(model, kv_cache_bits=bits), repetitive(0))
    counting.widths.clear()
    same = run(runner, repetitive(1, logit_bias={50: 100.0}))
    assert same == {1: [50] * 60}
    # The prompt, five tokens until two guesses came true, and then up to nine tokens a pass.
    assert counting.widths[0] == 12 and len(counting.widths) <= 14


OPTIONS = [
    {},
    {"temperature": 0.3, "seed": 5},
    {"temperature": 0.2, "top_p": 0.9},
    {"top_logprobs": 2},
]


@pytest.mark.slow
def test_drafts_change_no_text_of_a_batch(model, eager):
    def requests() -> list[Request]:
        return [
            repetitive(uid, max_tokens=60 + uid, prompt=10 + 9 * uid, **options)
            for uid, options in enumerate(OPTIONS)
        ]

    counting = Steps(model)
    runner = make_runner(counting, num_speculative_tokens=5)
    together = run(runner, *requests())
    figures = runner.figures()
    assert 0 < figures.accepted_tokens <= figures.drafted_tokens
    # The first token of each request needs no step.
    assert (
        figures.generated_tokens - len(OPTIONS) == figures.accepted_tokens + figures.step_rows
    )
    assert counting.widths.count(6) > 1  # prompts are longer
    for request in requests():
        uid = request.key[1]
        assert run(make_runner(model), request)[uid] == together[uid]
        assert len(together[uid]) == request.max_tokens


def test_a_stop_id_inside_a_draft_ends_the_text(model, eager):
    free = run(make_runner(model), repetitive(0))[0]
    for stop in set(free):
        drafted, plain = repetitive(0, stop=[stop]), repetitive(0, stop=[stop])
        runner = make_runner(model, num_speculative_tokens=8)
        assert run(runner, drafted) == run(make_runner(model), plain)
        assert drafted.finish_reason == plain.finish_reason == "stop"


@pytest.mark.parametrize("max_tokens", range(4, 12))
def test_the_end_is_told_once_and_with_the_last_tokens(model, eager, max_tokens):
    """One step may read both the tokens under way and a draft that ends the text."""
    runner = make_runner(model, num_speculative_tokens=8)
    runner.add_request(repetitive(0, max_tokens=max_tokens, logit_bias={50: 100.0}))
    told = []
    while runner.has_work:
        told += [(len(ids_of(output)), output.message.finish) for output in step(runner)]
    assert sum(count for count, _ in told) == max_tokens
    assert [finish for _, finish in told] == [None] * (len(told) - 1) + ["length"]


def test_what_drafts_leave_in_the_cache_is_right_for_the_next_turn(model, eager):
    runner = make_runner(model, num_speculative_tokens=8)
    first = repetitive(0)
    text = run(runner, first)[0]
    turn, alone = make(1, prompt=10), make(1, prompt=10)
    turn.prompt = alone.prompt = [*first.prompt, *text, *turn.prompt]
    assert run(runner, turn)[1] == run(make_runner(model), alone)[1]
    assert turn.num_cached >= 12 + len(text) - 1


@pytest.mark.slow
def test_rows_join_and_leave_among_drafts(model, eager):
    runner, tokens = make_runner(model, num_speculative_tokens=8), {}
    for uid in range(6):
        runner.add_request(repetitive(uid, max_tokens=30 + 10 * uid))
        for _ in range(8):
            for output in step(runner):
                tokens.setdefault(output.message.uid, []).extend(ids_of(output))
    while runner.has_work:
        for output in step(runner):
            tokens.setdefault(output.message.uid, []).extend(ids_of(output))
    for uid in range(6):
        alone = repetitive(uid, max_tokens=30 + 10 * uid)
        assert run(make_runner(model), alone)[uid] == tokens[uid]


def test_abort_among_drafts_leaves_the_others_as_they_are(model, eager):
    runner = make_runner(model, num_speculative_tokens=8)
    gone, stays = repetitive(0, max_tokens=400), repetitive(1)
    runner.add_request(gone)
    runner.add_request(stays)
    for _ in range(12):
        step(runner)
    runner.abort(gone.key)
    assert run(runner)[1] if stays.finish_reason is None else True
    assert stays.tokens == run(make_runner(model), repetitive(1))[1]


@pytest.mark.parametrize("options", [{"frequency_penalty": 0.1}, {"min_tokens": 60}])
def test_no_drafts_where_a_draw_depends_on_the_text(model, eager, options):
    counting = Steps(model)
    runner = make_runner(counting, num_speculative_tokens=8)
    counting.widths.clear()
    run(runner, repetitive(0, **options))
    assert counting.widths.count(1) == len(counting.widths) - 1
