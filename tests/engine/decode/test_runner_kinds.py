"""Models with every kind of cache in a runner: prefill together, batches and drafts."""

import mlx.core as mx
import pytest
from support import architectures
from support.running import make, make_runner, run

from mlxnode.engine.decode.prompt_lookup import DraftBudget
from mlxnode.engine.decode.request import Request

KINDS = ["gpt_oss", "gemma3n", "qwen3_5", "falcon_h1", "mamba", "llama4"]


class Shapes:
    """A model that notes the shapes of the tokens that it runs on."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, tokens: mx.array, cache=None, **others):
        if cache is not None:
            self.seen.append(tokens.shape)
        return self.model(tokens, cache=cache, **others)

    def __getattr__(self, name: str):
        return getattr(self.model, name)


def requests() -> list[Request]:
    """Prompts within a window and beyond it, which end at different times."""
    lengths = [(5, 30), (28, 9), (2, 21), (40, 14)]
    return [make(uid, prompt, tokens) for uid, (prompt, tokens) in enumerate(lengths)]


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_samples_what_each_request_samples_alone(name):
    model = architectures.build(name)
    together = run(make_runner(model, max_batch_size=3), *requests())
    for request in requests():
        [alone] = run(make_runner(model), request).values()
        assert together[request.key.uid] == alone
        assert len(alone) == request.max_tokens


@pytest.mark.parametrize(
    ("name", "is_together"), [("gpt_oss", True), ("qwen3_5", True), ("mamba", False)]
)
def test_short_prompts_share_a_pass_where_padding_is_skipped(name, is_together):
    model = Shapes(architectures.build(name))
    runner = make_runner(model)
    model.seen.clear()
    run(runner, *[make(uid, prompt=20 + uid, max_tokens=2) for uid in range(3)])
    assert any(rows == 3 and count > 5 for rows, count in model.seen) is is_together


def repetitive() -> list[Request]:
    """Requests whose answers have few different tokens, which come round again."""
    few = {"logit_bias": {token: 60.0 for token in range(50, 53)}}
    return [make(uid, prompt=10 + 20 * uid, max_tokens=50, **few) for uid in range(2)]


@pytest.mark.parametrize(
    ("name", "drafts"), [("gpt_oss", True), ("gemma3n", True), ("qwen3_5", False)]
)
def test_drafts_on_windows_change_no_token(name, drafts, monkeypatch):
    monkeypatch.setattr(DraftBudget, "permits", lambda self, rows: True)
    model = Shapes(architectures.build(name))
    expected = run(make_runner(model), *repetitive())
    runner = make_runner(model, num_speculative_tokens=8)
    model.seen.clear()
    assert run(runner, *repetitive()) == expected
    verified = [count for rows, count in model.seen if rows == 2 and 1 < count <= 9]
    assert bool(verified) is drafts
