"""Continuous batching on a tiny model with random weights."""

import importlib

import mlx.core as mx
import pytest
from mlx import nn
from support.running import collect, ids_of, make, make_runner, mixed, run, step, updates

from mlxnode.kernels.backend import METAL, OPS
from mlxnode.messages.data import Failed


@pytest.mark.slow
def test_runner_batch_of_sixteen_equals_each_alone(model):
    together = run(make_runner(model), *(mixed(uid) for uid in range(16)))
    for uid in range(16):
        assert len(together[uid]) == 10 + uid
        assert run(make_runner(model), mixed(uid))[uid] == together[uid]


def test_runner_generates_the_same_with_the_metal_kernel(model, emulated):
    requests = [mixed(uid) for uid in range(10)]
    by_kernel = run(make_runner(model, METAL), *requests)
    assert by_kernel == run(make_runner(model), *(mixed(uid) for uid in range(10)))


def test_runner_rows_join_and_leave_at_any_step(model):
    runner, tokens = make_runner(model, max_batch_size=3), {}
    for uid in range(9):
        runner.add_request(mixed(uid))
        for _ in range(uid % 4):
            collect(runner, tokens)
    while runner.has_work:
        collect(runner, tokens)
    for uid in range(9):
        assert tokens[uid] == run(make_runner(model), mixed(uid))[uid]


def test_runner_prefill_in_chunks_equals_prefill_at_once(model):
    runner = make_runner(model, prefill_stall_ms=1)
    assert runner._pacing.chunk_size(num_running=1) < 40
    long = make(0, prompt=300)
    assert run(runner, long, make(1))[0] == run(make_runner(model), make(0, prompt=300))[0]


def test_runner_goes_on_decoding_while_a_long_prompt_is_prefilled(model):
    runner, tokens = make_runner(model, prefill_stall_ms=1), {}
    runner.add_request(make(0, max_tokens=40))
    while len(tokens.get(0, [])) < 3:
        collect(runner, tokens)
    runner.add_request(make(1, prompt=400))
    while 1 not in tokens:
        before = len(tokens[0])
        collect(runner, tokens)
        assert len(tokens[0]) == before + 1 or before == 40


def test_runner_ends_a_text_at_a_stop_id(model):
    free = run(make_runner(model), make(0))[0]
    stop = free[7]
    request = make(0, stop=[stop])
    assert run(make_runner(model), request)[0] == free[: free.index(stop)]
    assert request.finish_reason == "stop"


def test_runner_abort_frees_the_row_within_one_step(model):
    runner, tokens = make_runner(model, max_batch_size=1), {}
    running, waiting = make(0, max_tokens=400), make(1)
    runner.add_request(running)
    runner.add_request(waiting)
    while len(tokens.get(0, [])) < 3:
        collect(runner, tokens)
    runner.abort(running.key)
    count = len(tokens[0])
    collect(runner, tokens)
    assert runner.num_running == 0
    while runner.has_work:
        collect(runner, tokens)
    assert len(tokens[0]) == count
    assert tokens[1] == run(make_runner(model), make(1))[1]


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_runner_abort_works_in_every_phase(model, steps):
    runner, tokens = make_runner(model, prefill_stall_ms=1), {}
    request = make(0, prompt=60, max_tokens=2)
    runner.add_request(request)
    for _ in range(steps):
        collect(runner, tokens)
    runner.abort(request.key)
    assert run(runner, make(1))[1] == run(make_runner(model), make(1))[1]
    assert not runner.has_work


class Poisoned(nn.Module):
    """A model whose logits are NaN for one token; everything else is the inner model's."""

    def __init__(self, inner: nn.Module, poison: int):
        super().__init__()
        self.inner = inner
        self.poison = poison

    @property
    def layers(self):
        return self.inner.layers

    def __call__(self, tokens: mx.array, cache=None) -> mx.array:
        logits = self.inner(tokens, cache=cache)
        return mx.where(tokens[:, -1:, None] == self.poison, mx.nan, logits)


def test_runner_row_with_nan_fails_alone(model):
    poison = 1
    runner = make_runner(Poisoned(model, poison))
    bad, good = make(0), make(1)
    bad.prompt[-1] = poison
    runner.add_request(bad)
    runner.add_request(good)
    errors, tokens = [], []
    while runner.has_work:
        for output in step(runner):
            if isinstance(output.message, Failed):
                errors.append(output)
            else:
                tokens += ids_of(output)
    assert [output.key for output in errors] == [bad.key]
    assert "not finite" in errors[0].message.message
    assert tokens == run(make_runner(model), make(1))[1]
    again = make(0)
    again.prompt = [*bad.prompt, 5]
    run(runner, again)
    assert again.num_cached == 0  # nothing of a failed row is used again


def test_runner_fail_returns_every_request_and_starts_afresh(model):
    runner = make_runner(model, max_batch_size=2)
    requests = [make(uid) for uid in range(4)]
    for request in requests:
        runner.add_request(request)
    for _ in range(3):
        step(runner)
    assert set(runner.fail()) == {request.key for request in requests}
    assert not runner.has_work
    assert run(runner, make(9))[9] == run(make_runner(model), make(9))[9]


def test_runner_refuses_what_the_memory_cannot_hold(model):
    runner = make_runner(model, budget=100_000)
    refusal = runner.add_request(make(0, prompt=400))
    assert refusal.reason == "too_large"
    assert not runner.has_work


@pytest.mark.parametrize("max_tokens", [400, 10**9])
def test_runner_shortens_an_answer_to_what_the_memory_can_hold(model, max_tokens):
    budget = 200_000
    runner, free = make_runner(model, budget=budget), make_runner(model)
    request = make(0, max_tokens=max_tokens)
    [*_, last] = updates(runner, request)
    assert 1 < len(request.tokens) < 400 and last.finish == "length"
    assert request.tokens == run(free, make(0, max_tokens=len(request.tokens)))[0]
    longer = make(1, max_tokens=len(request.tokens) + 1)
    assert runner._scheduler._alone(12, longer.max_tokens) > budget


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 259,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
# One architecture for each kind of cache: growing, sliding window, convolution, recurrent.
ARCHITECTURES = {
    "qwen3": {},
    "gemma3_text": {
        "sliding_window": 16,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 8,
    },
    "lfm2": {
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 64,
        "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": True,
        "full_attn_idxs": [1],
    },
    "mamba2": {
        "num_heads": 8,
        "state_size": 16,
        "layer_norm_epsilon": 1e-5,
        "conv_kernel": 4,
        "n_groups": 1,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_limit": [0.0, 100.0],
        "time_step_rank": "auto",
        "ssm_state_size": 16,
    },
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_runner_batches_every_kind_of_cache(name):
    mx.random.seed(0)
    module = importlib.import_module(f"mlx_lm.models.{name}")
    config = SMALL | {"model_type": name} | ARCHITECTURES[name]
    model = module.Model(module.ModelArgs.from_dict(config))
    mx.eval(model.parameters())
    together = run(make_runner(model), *(mixed(uid) for uid in range(5)))
    for uid in range(5):
        assert together[uid] == run(make_runner(model), mixed(uid))[uid]


def test_runner_takes_a_complete_prompt_into_the_very_next_launch(model):
    runner = make_runner(model)
    running, newcomer = make(0, max_tokens=100), make(1, prompt=10)
    runner.add_request(running)
    for _ in range(5):
        step(runner)
    runner.add_request(newcomer)
    steps = runner.step()
    assert [output.key for output in next(steps)] == [running.key]
    assert newcomer.num_prefilled == 0  # the tokens were emitted before the prompt is processed
    first = next(outputs for outputs in steps if outputs)
    assert [output.key for output in first] == [newcomer.key]  # its first token
    assert not any(steps) and runner.num_running == 2
    assert {output.key for output in step(runner)} == {running.key, newcomer.key}


def test_runner_tells_tokens_before_it_draws_the_next_ones(model):
    draws = []

    def sample(logits: mx.array, *arguments, **options):
        draws.append(len(logits))
        return OPS.sample(logits, *arguments, **options)

    runner = make_runner(model, OPS._replace(sample=sample))
    runner.add_request(make(0))
    for _ in range(3):
        step(runner)
    draws.clear()
    steps = runner.step()
    [output] = next(outputs for outputs in steps if outputs)
    assert len(ids_of(output)) == 1 and draws == []
    assert not any(steps)
    assert draws == [1]


def test_runner_pieces_of_prompt_leave_no_small_rest(model):
    runner = make_runner(model, prefill_stall_ms=1)
    running, long = make(0, max_tokens=400), make(1, prompt=230)
    runner.add_request(running)
    while len(running.tokens) < 3:
        step(runner)
    runner.add_request(long)
    pieces = []
    runner._pacing.chunk_size = lambda **_: 100
    while long.num_to_prefill:
        step(runner)
        pieces.append(long.num_prefilled)
    assert pieces == [100, 230]
