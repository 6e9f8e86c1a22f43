"""Continuous batching on a tiny model with random weights."""

import importlib
import re

import mlx.core as mx
import pytest
import tiny
from llguidance import LLMatcher
from mlx import nn
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

from mlxnode.config import EngineConfig
from mlxnode.engine.grammar import GrammarCompiler
from mlxnode.engine.request import Request
from mlxnode.engine.runner import Output, Runner
from mlxnode.engine.scheduler import MemoryBudget
from mlxnode.kernels.backend import METAL, OPS, Kernels
from mlxnode.messages import Generate, Sampling


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> nn.Module:
    folder = tiny.make_chat_model(tmp_path_factory.mktemp("tiny"))
    model = load_model(folder)[0]
    model.folder = folder
    return model


def make_runner(
    model: nn.Module, kernels: Kernels = OPS, budget: int = 10**9, **config
) -> Runner:
    def make_compiler(vocabulary_size: int, stop_ids: frozenset[int]) -> GrammarCompiler:
        return GrammarCompiler(model.folder, vocabulary_size, stop_ids)

    return Runner(model, EngineConfig(**config), MemoryBudget(budget), make_compiler, kernels)


def make(uid: int, prompt: int = 12, max_tokens: int = 20, stop=(), **sampling) -> Request:
    ids = [3 + (uid * 7 + i * i) % 250 for i in range(prompt)]
    sampling = {"temperature": 0.0, "seed": uid} | sampling
    message = Generate(uid, "m", ids, max_tokens, list(stop), Sampling(**sampling))
    return Request.of(1, message, random_seed=0)


def step(runner: Runner) -> list[Output]:
    outputs = runner.decode()
    runner.prefill()
    return outputs


def collect(runner: Runner, tokens: dict[int, list[int]]) -> None:
    for output in step(runner):
        if output.token is not None:
            tokens.setdefault(output.request.key[1], []).append(output.token)


def run(runner: Runner, *requests: Request) -> dict[int, list[int]]:
    """The tokens of each request by uid, from one batch."""
    for request in requests:
        assert runner.add(request) is None
    tokens: dict[int, list[int]] = {}
    for _ in range(2000):
        if not runner.has_work:
            return tokens
        collect(runner, tokens)
    raise AssertionError("the batch does not come to an end")


MIXED = [
    {},
    {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 1.2, "top_k": 20},
    {"temperature": 0.8, "min_p": 0.1},
    {"temperature": 1.0},
]


def mixed(uid: int) -> Request:
    parameters = MIXED[uid % len(MIXED)]
    return make(uid, prompt=1 + uid * 13, max_tokens=10 + uid, **parameters)


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
        runner.add(mixed(uid))
        for _ in range(uid % 4):
            collect(runner, tokens)
    while runner.has_work:
        collect(runner, tokens)
    for uid in range(9):
        assert tokens[uid] == run(make_runner(model), mixed(uid))[uid]


def test_runner_prefill_in_chunks_equals_prefill_at_once(model):
    runner = make_runner(model, prefill_stall_ms=1)
    assert runner._clock.chunk_size(num_running=1) < 40
    long = make(0, prompt=300)
    assert run(runner, long, make(1))[0] == run(make_runner(model), make(0, prompt=300))[0]


def test_runner_goes_on_decoding_while_a_long_prompt_is_prefilled(model):
    runner, tokens = make_runner(model, prefill_stall_ms=1), {}
    runner.add(make(0, max_tokens=40))
    while len(tokens.get(0, [])) < 3:
        collect(runner, tokens)
    runner.add(make(1, prompt=400))
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
    runner.add(running)
    runner.add(waiting)
    while len(tokens.get(0, [])) < 3:
        collect(runner, tokens)
    runner.abort(running)
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
    runner.add(request)
    for _ in range(steps):
        collect(runner, tokens)
    runner.abort(request)
    assert run(runner, make(1))[1] == run(make_runner(model), make(1))[1]
    assert not runner.has_work


PENALTIES = {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.2}


def regex(pattern: str) -> str:
    return LLMatcher.grammar_from_regex(pattern)


def test_runner_penalises_what_the_text_has(model):
    def count(**penalties: float) -> int:
        request = make(0, logit_bias={77: 1000.0}, **penalties)
        return run(make_runner(model), request)[0].count(77)

    assert count() == 20
    assert count(frequency_penalty=400.0) == 3
    assert count(presence_penalty=2000.0) == 1
    assert count(repetition_penalty=1000.0) == 1


def test_runner_counts_the_prompt_for_the_repetition_penalty_alone(model):
    token = make(0).prompt[0]
    for penalty, first in (("repetition_penalty", False), ("presence_penalty", True)):
        request = make(0, logit_bias={token: 1000.0}, **{penalty: 900.0})
        assert (run(make_runner(model), request)[0][0] == token) is first


def test_runner_biases_tokens(model):
    assert set(run(make_runner(model), make(0, logit_bias={77: 1000.0}))[0]) == {77}
    free = run(make_runner(model), make(0))[0]
    assert free[0] not in run(make_runner(model), make(0, logit_bias={free[0]: -1000.0}))[0]


def test_runner_holds_stops_back_for_min_tokens(model):
    free = run(make_runner(model), make(0, max_tokens=40))[0]
    stop = free[3]
    assert len(run(make_runner(model), make(0, stop=[stop], max_tokens=40))[0]) == 3
    held = run(make_runner(model), make(0, stop=[stop], max_tokens=40, min_tokens=12))[0]
    assert stop not in held
    assert len(held) >= 12


def test_runner_reports_the_most_likely_tokens_of_those_who_ask(model):
    runner = make_runner(model)
    requests = [make(0, top_logprobs=3), make(1), make(2, temperature=1.0, top_logprobs=20)]
    for request in requests:
        runner.add(request)
    while runner.has_work:
        for output in step(runner):
            count = output.request.sampling.top_logprobs
            if count == 0:
                assert output.top_logprobs is None
                continue
            assert len(output.top_logprobs) == count
            values = list(output.top_logprobs.values())
            assert values == sorted(values, reverse=True)
            if output.token in output.top_logprobs:
                assert output.top_logprobs[output.token] == pytest.approx(output.logprob)
            if output.request is requests[0]:
                assert next(iter(output.top_logprobs)) == output.token


def test_runner_keeps_to_a_grammar(model):
    requests = [
        make(uid, max_tokens=40, stop=[2], temperature=1.0, grammar=regex("[a-c]{3,6}x?"))
        for uid in range(6)
    ]
    requests.append(make(6, max_tokens=9))
    tokens = run(make_runner(model), *requests)
    for request in requests[:6]:
        text = Tokenizer.from_file(str(model.folder / "tokenizer.json")).decode(
            tokens[request.key[1]]
        )
        assert re.fullmatch("[a-c]{3,6}x?", text)
        assert request.finish_reason == "stop"
    assert tokens[6] == run(make_runner(model), make(6, max_tokens=9))[6]


def test_runner_grammar_that_cannot_be_compiled_fails_alone(model):
    runner = make_runner(model)
    bad, good = make(0, grammar="{no grammar", stop=[2]), make(1)
    runner.add(bad)
    runner.add(good)
    outputs = []
    while runner.has_work:
        outputs += step(runner)
    assert [output.request for output in outputs if output.error] == [bad]
    assert [o.token for o in outputs if o.token is not None] == run(
        make_runner(model), make(1)
    )[1]


def guided(uid: int) -> Request:
    parameters = [
        PENALTIES,
        {"grammar": regex("[a-z ]{2,30}")},
        {"logit_bias": {50: 3.0}, "min_tokens": 8},
        {},
        PENALTIES | {"temperature": 0.0, "top_logprobs": 5},
    ][uid % 5]
    return make(uid, prompt=3 + uid, stop=[2], **({"temperature": 0.9} | parameters))


@pytest.mark.parametrize("kernels", [OPS, METAL], ids=["ops", "emulated"])
def test_runner_guided_rows_in_a_batch_equal_each_alone(model, kernels, emulated):
    together = run(make_runner(model, kernels), *(guided(uid) for uid in range(10)))
    for uid in range(10):
        assert run(make_runner(model), guided(uid))[uid] == together[uid]


@pytest.mark.parametrize("kernels", [OPS, METAL], ids=["ops", "emulated"])
def test_runner_scores_prompts(model, kernels, emulated):
    request = make(0, prompt=150, max_tokens=2, scores_prompt=True, top_logprobs=2)
    run(make_runner(model, kernels), request, make(1, prompt=30))
    logits = model(mx.array([request.prompt]))[0]
    expected = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    scores = request.scores
    assert len(scores.logprobs) == len(scores.top_logprobs) == 149
    for i, (token, logprob, top) in enumerate(
        zip(request.prompt[1:], scores.logprobs, scores.top_logprobs, strict=True)
    ):
        assert logprob == pytest.approx(expected[i, token].item(), abs=1e-4)
        best = mx.argmax(expected[i]).item()
        assert next(iter(top)) == best
        assert top[best] == pytest.approx(expected[i, best].item(), abs=1e-4)


class Counting(nn.Module):
    """A model that counts the prompt tokens that it processes."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.num_prompt_tokens = 0

    @property
    def layers(self):
        return self.inner.layers

    def __call__(self, tokens: mx.array, cache=None) -> mx.array:
        if tokens.shape[1] > 1:
            self.num_prompt_tokens += tokens.size
        return self.inner(tokens, cache=cache)


def test_runner_processes_a_prompt_once_for_all_who_begin_with_it_together(model):
    counting = Counting(model)
    runner = make_runner(counting)
    choices = [make(0, prompt=50, temperature=1.0, seed=seed) for seed in range(4)]
    for uid, request in enumerate(choices):
        request.key = (1, uid)
    tokens = run(runner, *choices, make(9, prompt=50))
    assert counting.num_prompt_tokens == 2 * 49
    for uid, request in enumerate(choices):
        alone = make(0, prompt=50, temperature=1.0, seed=request.seed)
        assert run(make_runner(model), alone)[0] == tokens[uid]


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
    runner.add(bad)
    runner.add(good)
    errors, tokens = [], []
    while runner.has_work:
        for output in step(runner):
            if output.error is not None:
                errors.append((output.request, output.error))
            else:
                tokens.append(output.token)
    assert [request for request, _ in errors] == [bad]
    assert "not finite" in errors[0][1]
    assert tokens == run(make_runner(model), make(1))[1]


def test_runner_fail_returns_every_request_and_starts_afresh(model):
    runner = make_runner(model, max_batch_size=2)
    requests = [make(uid) for uid in range(4)]
    for request in requests:
        runner.add(request)
    for _ in range(3):
        step(runner)
    assert set(runner.fail()) == set(requests)
    assert not runner.has_work
    assert run(runner, make(9))[9] == run(make_runner(model), make(9))[9]


def test_runner_refuses_what_the_memory_cannot_hold(model):
    runner = make_runner(model, budget=100_000)
    refusal = runner.add(make(0, max_tokens=400))
    assert refusal.reason == "too_large"
    assert not runner.has_work


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


def test_runner_scores_a_prompt_also_beside_one_that_does_not_ask(model):
    counting = Counting(model)
    plain = make(0, prompt=40)
    asking = make(1, prompt=40, scores_prompt=True)
    again = make(2, prompt=40, scores_prompt=True)
    for request in (asking, again):
        request.prompt = plain.prompt
    run(make_runner(counting), plain, asking, again)
    assert plain.scores is None
    assert asking.scores.logprobs == again.scores.logprobs
    assert len(asking.scores.logprobs) == 39
    assert counting.num_prompt_tokens == 2 * 39
