"""The launches of a decode step: no more than with mlx-lm's own caches."""

import sys
from collections import Counter
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from support import architectures

from mlxnode.engine.cpu.model import REPLACEMENTS
from mlxnode.engine.kvcache.batch import BatchCache
from mlxnode.engine.kvcache.prompt_cache import PromptCache, evaluate, new_prompt_cache

# Their layers cache the keys and values of all tokens, in different ways to attend.
FAMILIES = ["llama", "qwen3", "gemma2", "phi3", "gpt_neox", "olmo2", "cohere", "deepseek_v3"]
# The output of these operations is a view of their input: nothing is launched.
VIEWS = {
    "AsStrided",
    "Broadcast",
    "Depends",
    "ExpandDims",
    "Flatten",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unflatten",
}
EVEN = [[9] * 4, [9] * 8, [9] * 32]
UNEVEN = [[9, 5, 7, 3], list(range(3, 11)), [3 + i % 9 for i in range(32)]]


@pytest.fixture(autouse=True)
def plain_mlx(monkeypatch):
    """Models compute as on a GPU: what the CPU needs is not installed, whatever ran before."""
    modules = [m for name, m in list(sys.modules.items()) if name.startswith("mlx_lm.models.")]
    for module in modules:
        for name, value in list(vars(module).items()):
            for function, replacement in REPLACEMENTS:
                if value is replacement:
                    monkeypatch.setattr(module, name, function)


@pytest.fixture(params=["in parts", "fused"])
def fast_functions(request, monkeypatch):
    """MLX's fast functions: many operations each on the CPU, one launch each on a GPU."""
    if request.param == "in parts":
        return

    def rope(x, dims, *, offset, **_):
        return _after(mx.negative(x), offset)

    def attend(queries, keys, values, *, scale, mask=None, sinks=None):
        mixed = mx.negative(queries)[..., : values.shape[-1]]
        return _after(mixed, keys, values, mask)

    monkeypatch.setattr(mx.fast, "rope", rope)
    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", attend)
    monkeypatch.setattr(mx.fast, "rms_norm", lambda x, *_: mx.negative(x))
    monkeypatch.setattr(mx.fast, "layer_norm", lambda x, *_: mx.negative(x))


def _after(array: mx.array, *needed: Any) -> mx.array:
    """``array``, which is also computed from ``needed``."""
    return mx.depends(array, [a for a in needed if isinstance(a, mx.array)])


def prefilled(model: nn.Module, lengths: list[int], bits: int | None = None) -> list:
    """The caches of single sequences; rows of one length share theirs."""
    caches = {length: new_prompt_cache(model, bits) for length in lengths}
    for length, cache in caches.items():
        model(mx.ones((1, length), mx.int32), cache=cache)
        evaluate(cache)
    return [caches[length] for length in lengths]


def merged(caches: list[PromptCache]) -> PromptCache:
    """mlx-lm's cache of these sequences."""
    if len(caches) == 1:
        return caches[0]
    return [rows[0].merge(rows) for rows in zip(*caches, strict=True)]


def launches(model: nn.Module, cache: PromptCache, rows: int) -> Counter[str]:
    """The operations of a decode step that launch something. The cache was in use before."""
    tokens = mx.ones((rows, 1), mx.int32)
    names: Counter[str] = Counter()

    def note(part: dict) -> None:
        if part["type"] == "primitive" and part["name"] not in VIEWS:
            names[part["name"]] += 1

    mx.export_function(note, lambda ids: model(ids, cache=cache), tokens)
    return names


def step(model: nn.Module, cache: PromptCache, rows: int) -> None:
    mx.eval(model(mx.ones((rows, 1), mx.int32), cache=cache), [c.state for c in cache])


def slots_of(model: nn.Module, caches: list[PromptCache]) -> PromptCache:
    batch = BatchCache()
    batch.join(caches)
    step(model, batch.layers, len(caches))
    batch.advance([1] * len(caches))
    return batch.layers


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lengths", [[9], *EVEN, *UNEVEN], ids=len)
def test_a_step_launches_no_more_than_with_the_caches_of_mlx_lm(name, lengths, fast_functions):
    model, rows = architectures.build_plain(name), len(lengths)
    theirs = merged(prefilled(model, lengths))
    step(model, theirs, rows)
    expected = launches(model, theirs, rows)
    found = launches(model, slots_of(model, prefilled(model, lengths)), rows)
    assert found.total() <= expected.total(), (found - expected, expected - found)
    if rows == 1:
        assert found == expected


@pytest.mark.parametrize("bits", [8, 4])
def test_a_step_of_one_quantized_row_launches_what_mlx_lm_launches(bits, fast_functions):
    model = architectures.build_plain("llama", head_dim=64)
    [theirs] = prefilled(model, [9], bits)
    expected = launches(model, theirs, 1)
    assert launches(model, slots_of(model, prefilled(model, [9], bits)), 1) == expected


@pytest.mark.parametrize("fast_functions", ["fused"], indirect=True)
@pytest.mark.parametrize("lengths", [*EVEN, *UNEVEN], ids=len)
def test_rows_share_masks_and_indices_whatever_the_number_of_layers(lengths, fast_functions):
    """A layer adds what it adds for one row: each further operation is there once a step."""
    counts = {}
    for rows, layers in [(1, 2), (1, 6), (len(lengths), 2), (len(lengths), 6)]:
        model = architectures.build_plain("llama", num_hidden_layers=layers)
        cache = slots_of(model, prefilled(model, lengths[:rows]))
        counts[rows, layers] = launches(model, cache, rows).total()
    rows = len(lengths)
    a_layer = counts[1, 6] - counts[1, 2]
    assert counts[rows, 6] - counts[rows, 2] == a_layer
    assert counts[rows, 2] <= counts[1, 2] + (0 if lengths in EVEN else 1)
