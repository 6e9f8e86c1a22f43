"""What requests ask of their next token: penalties, biases, grammars; scores of tokens."""

import re

import mlx.core as mx
import pytest
from llguidance import LLMatcher
from mlx import nn
from support.running import ids_of, make, make_runner, run, step, updates
from tokenizers import Tokenizer

from mlxnode.engine.decode.request import Request
from mlxnode.engine.work import RequestKey
from mlxnode.kernels.backend import METAL, OPS
from mlxnode.messages.data import Failed, Token

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
        runner.add_request(request)
    while runner.has_work:
        for output in step(runner):
            count = requests[output.message.uid].sampling.top_logprobs
            for token in output.message.tokens:
                top = token.top_logprobs
                if not count:
                    assert top is None
                    continue
                assert len(top) == count
                assert list(top.values()) == sorted(top.values(), reverse=True)
                if token.id in top:
                    assert top[token.id] == pytest.approx(token.logprob)
                if output.message.uid == 0:
                    assert next(iter(top)) == token.id


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
    runner.add_request(bad)
    runner.add_request(good)
    outputs = []
    while runner.has_work:
        outputs += step(runner)
    assert [o.key for o in outputs if isinstance(o.message, Failed)] == [bad.key]
    tokens = [id for o in outputs if o.key == good.key for id in ids_of(o)]
    assert tokens == run(make_runner(model), make(1))[1]


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
    emitted = updates(make_runner(model, kernels), request, make(1, prompt=30))
    logits = model(mx.array([request.prompt]))[0]
    expected = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    [scores] = [update.prompt for update in emitted if update.prompt is not None]
    assert [token.id for token in scores] == request.prompt
    assert scores[0] == Token(request.prompt[0], None)
    for i, token in enumerate(scores[1:]):
        assert token.logprob == pytest.approx(expected[i, token.id].item(), abs=1e-4)
        best = mx.argmax(expected[i]).item()
        assert next(iter(token.top_logprobs)) == best
        assert token.top_logprobs[best] == pytest.approx(expected[i, best].item(), abs=1e-4)


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
    counting.num_prompt_tokens = 0
    choices = [make(0, prompt=50, temperature=1.0, seed=seed) for seed in range(4)]
    for uid, request in enumerate(choices):
        request.key = RequestKey(1, uid)
    tokens = run(runner, *choices, make(9, prompt=50))
    assert counting.num_prompt_tokens == 2 * 50
    for uid, request in enumerate(choices):
        alone = make(0, prompt=50, temperature=1.0, seed=request.seed)
        assert run(make_runner(model), alone)[0] == tokens[uid]


def test_runner_scores_a_prompt_also_beside_one_that_does_not_ask(model):
    counting = Counting(model)
    plain = make(0, prompt=40)
    asking = make(1, prompt=40, scores_prompt=True)
    again = make(2, prompt=40, scores_prompt=True)
    for request in (asking, again):
        request.prompt = plain.prompt
    runner = make_runner(counting)
    counting.num_prompt_tokens = 0
    emitted = updates(runner, plain, asking, again)
    scores = {update.uid: update.prompt for update in emitted if update.prompt is not None}
    assert scores.keys() == {1, 2}
    assert scores[1] == scores[2]
    assert len(scores[1]) == 40
    assert counting.num_prompt_tokens == 3 * 40  # scores need the logits of every position


def test_runner_follows_a_grammar_from_behind_given_tokens(model):
    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    free = run(make_runner(model), make(0))[0]
    after = free[4:6]
    assert not any(free[i : i + 2] == after for i in range(4))
    options = {
        "grammar": regex("[ab]{3}"),
        "grammar_after": [[[258], [258]], [[id] for id in after]],
    }
    guided, other = make(0, stop=[2], **options), make(1, temperature=1.0)
    tokens = run(make_runner(model), guided, other)
    assert tokens[0][:6] == free[:6]
    assert re.fullmatch("[ab]{3}", tokenizer.decode(tokens[0][6:]))
    assert guided.finish_reason == "stop"
    assert tokens[1] == run(make_runner(model), make(1, temperature=1.0))[1]


def test_runner_never_begins_a_grammar_whose_sign_does_not_come(model):
    free = run(make_runner(model), make(0))[0]
    absent = next(token for token in range(3, 259) if token not in free)
    request = make(0, stop=[2], grammar=regex("[ab]{3}"), grammar_after=[[[absent]]])
    assert run(make_runner(model), request)[0] == free


def test_runner_masks_the_stop_ids_until_the_grammar_starts(model):
    free = run(make_runner(model), make(0))[0]
    stop = free[3]
    options = {"grammar": regex("[ab]{3}"), "grammar_after": [[[free[-1]], [0], [0]]]}
    request = make(0, stop=[stop], **options)
    tokens = run(make_runner(model), request)[0]
    assert len(tokens) == len(free) and stop not in tokens
    assert request.finish_reason == "length"


def test_runner_fails_an_answer_that_stops_outside_its_grammar(model):
    # The compiler knows the stop ids of the first request; "a" is text to it.
    runner = make_runner(model)
    run(runner, make(0, stop=[2], grammar=regex("[ab]{3}")))
    letter = Tokenizer.from_file(str(model.folder / "tokenizer.json")).token_to_id("a")
    request = make(1, stop=[2, letter], grammar=regex("a[ab]{3}"))
    runner.add_request(request)
    outputs = []
    while runner.has_work:
        outputs += step(runner)
    assert [o.message.finish for o in outputs if not isinstance(o.message, Failed)] == []
    assert isinstance(outputs[-1].message, Failed)
