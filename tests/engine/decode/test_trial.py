"""A loaded model is tried in a batch of two rows before any client asks."""

import mlx.core as mx
import pytest
from mlx import nn
from mlx_lm.models.cache import make_prompt_cache
from support import architectures
from support.running import make_runner

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.trial import try_batch
from mlxnode.engine.kvcache import separate
from mlxnode.errors import ModelError
from mlxnode.kernels.backend import OPS


class Wrapped(nn.Module):
    """A model that does something else when ``condition`` is true of the tokens of a pass."""

    def __init__(self, inner: nn.Module, condition, act):
        super().__init__()
        self.inner, self.condition, self.act = inner, condition, act
        self.shapes: list[tuple[int, ...]] = []

    @property
    def layers(self):
        return self.inner.layers

    def __call__(self, tokens: mx.array, cache=None) -> mx.array:
        self.shapes.append(tokens.shape)
        logits = self.inner(tokens, cache=cache)
        return self.act(logits) if self.condition(tokens, cache) else logits


def never(*_: object) -> bool:
    return False


def refuse(_: mx.array) -> mx.array:
    raise AttributeError("this cache has no keys_and_values")


def attempt(model: nn.Module, **config: object) -> None:
    try_batch(model, EngineConfig(**config), lambda *_: None, OPS)


def test_trial_runs_one_row_then_two_then_one(model):
    watched = Wrapped(model, never, refuse)
    attempt(watched)
    rows = [shape[0] for shape in watched.shapes if shape[1] == 1]
    assert 2 in rows and rows[-1] == 1 and 1 in rows[: rows.index(2)]
    attempt(model, kv_cache_bits=8)


@pytest.mark.parametrize(
    "condition",
    [
        lambda tokens, cache: cache is not None and tokens.shape[0] == 2,  # the second joined
        lambda tokens, cache: cache is not None and tokens.shape == (1, 3),  # its prompt
    ],
    ids=["batch", "prompt"],
)
def test_trial_refuses_a_model_that_fails_on_the_way(model, condition):
    with pytest.raises(
        ModelError, match="cannot be batched: AttributeError: this cache has no"
    ):
        attempt(Wrapped(model, condition, refuse))


@pytest.mark.parametrize("name", ["phi3small", "gpt_bigcode"])
def test_trial_refuses_an_architecture_of_mlx_lm_that_runs_alone_only(name, monkeypatch):
    """Their rows run one by one for this reason."""
    model = architectures.build(name)
    mx.eval(model(mx.zeros((1, 3), mx.int32), cache=make_prompt_cache(model)))
    attempt(model)
    monkeypatch.setattr(separate, "_SEPARATE", set())
    with pytest.raises(ModelError, match=r"cannot be batched: \w+Error: "):
        attempt(model)


def test_trial_refuses_a_model_whose_logits_are_never_finite(model):
    broken = Wrapped(model, lambda *_: True, lambda logits: logits * mx.nan)
    with pytest.raises(ModelError, match="not finite"):
        attempt(broken)
    one_row = Wrapped(
        model, lambda tokens, cache: tokens.shape == (1, 3), lambda logits: logits * mx.nan
    )
    attempt(one_row)  # a row with NaN fails alone, when requests run too


def test_trial_leaves_nothing_behind(model):
    before = make_runner(model).figures()
    memory = mx.get_active_memory()
    attempt(model)
    assert make_runner(model).figures() == before
    assert mx.get_active_memory() - memory < 100_000
