"""The batch alone: stepped by the test, without a runner."""

import mlx.core as mx
import pytest
from mlx import nn
from support.running import make

from mlxnode.engine.decode.batch import Batch
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.sampling import Sampler
from mlxnode.engine.kvcache.prompt_cache import evaluate, new_prompt_cache
from mlxnode.kernels.backend import OPS


def prefilled(model: nn.Module, uid: int, prompt: int) -> Request:
    """A request with the cache of its prompt and the first token, which is greedy."""
    request = make(uid, prompt=prompt, max_tokens=100)
    request.cache = new_prompt_cache(model)
    logits = model(mx.array([request.prompt]), cache=request.cache)
    evaluate(request.cache, logits)
    request.accept(int(mx.argmax(logits[0, -1]).item()))
    request.num_sampled = 1
    return request


def step(batch: Batch) -> dict[int, list[int]]:
    """One step as the runner does it; returns the tokens of the step before, by uid."""
    batch.forward()
    outputs = batch.read()
    batch.sample(started_at=0.0)
    return {o.message.uid: [token.id for token in o.message.tokens] for o in outputs}


def greedy(model: nn.Module, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(mx.argmax(model(mx.array([tokens]))[0, -1]).item()))
    return tokens[len(prompt) :]


def test_a_batch_is_stepped_without_a_runner(model):
    batch = Batch(model, Sampler(OPS))
    first, second, third = (prefilled(model, uid, 5 + 9 * uid) for uid in range(3))
    batch.join([first, second])
    assert len(batch) == 2 and batch.lengths == [5, 14] and first.cache is None
    assert step(batch) == {}  # nothing was sampled before
    assert step(batch).keys() == {0, 1}
    batch.leave([first])
    batch.join([third])
    assert batch.rows == [second, third] and batch.lengths == [16, 23]
    # The tokens that were sampled before the rows changed are read after it.
    assert step(batch).keys() == {0, 1}
    for _ in range(5):
        assert step(batch).keys() == {1, 2}
    batch.read()
    assert batch.read() == []
    for request in (first, second, third):
        assert request.tokens == greedy(model, request.prompt, len(request.tokens))
    assert [len(request.tokens) for request in (first, second, third)] == [3, 9, 7]


def test_verify_keeps_the_tokens_after_correct_draft_tokens_only(model):
    batch = Batch(model, Sampler(OPS))
    right, wrong = prefilled(model, 0, 12), prefilled(model, 1, 30)
    expected = {r.key.uid: greedy(model, r.prompt, 8) for r in (right, wrong)}
    batch.join([right, wrong])
    assert batch.can_verify
    other = (expected[1][1] + 1) % 259
    batch.verify([expected[0][1:4], [other, other]], started_at=0.0)
    counts = {o.message.uid: len(o.message.tokens) for o in batch.read()}
    assert counts == {0: 4, 1: 1}
    assert batch.lengths == [12 + 4, 30 + 1]
    for _ in range(3):
        step(batch)
    batch.read()
    for request in (right, wrong):
        assert request.tokens == expected[request.key.uid][: len(request.tokens)]


def test_sample_needs_a_forward_pass(model):
    batch = Batch(model, Sampler(OPS))
    batch.join([prefilled(model, 0, 5)])
    with pytest.raises(RuntimeError, match="after forward"):
        batch.sample(started_at=0.0)
