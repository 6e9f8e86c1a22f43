"""Which layers keep quantized keys and values: found by trying, and listed."""

import mlx.core as mx
import pytest
from mlx import nn
from mlx_lm.models.cache import CacheList, KVCache, QuantizedKVCache
from support import architectures

from mlxnode.engine.kvcache.prompt_cache import flat_layers, new_prompt_cache
from mlxnode.engine.kvcache.quantization import KVChoices, LayerChoice, kv_choices

PROMPT = mx.arange(40)[None] + 5


def probabilities(model: nn.Module, bits: int | None) -> mx.array:
    """Of the tokens after a prompt, and after two steps; [3, V]."""
    cache = new_prompt_cache(model, bits)
    logits = [
        model(part, cache=cache)[0, -1:] for part in (PROMPT, PROMPT[:, :1], PROMPT[:, 1:2])
    ]
    return mx.softmax(mx.concatenate(logits).astype(mx.float32), axis=-1)


# What is known of the models: heads of 32, 64, 16, 96 numbers; products of their own with keys,
# latent keys, sinks, keys that another layer reads, caches inside of caches.
@pytest.mark.parametrize(
    ("name", "group_sizes"),
    [
        ("llama", {32}),
        ("qwen3_5", {0, 64}),
        ("deepseek_v3-kv", {0}),
        ("gemma2", {0}),
        ("gpt_oss", {0}),
        ("plamo2", {0}),
        ("granitemoehybrid", {0}),
        ("afm7", {0, 32}),
        ("falcon_h1", {0, 32}),
        ("gemma4_text", {0}),
        ("gemma3_text", {0, 32}),
    ],
)
def test_layers_are_quantized_where_the_model_allows_it(name, group_sizes):
    model = architectures.build(name)
    choices = kv_choices(model).caches
    assert {choice.group_size for choice in choices} == group_sizes
    layers = flat_layers(new_prompt_cache(model, 4))
    assert [getattr(layer, "group_size", 0) for layer in layers] == [
        choice.group_size for choice in choices
    ]
    assert all((choice.reason == "") == (choice.group_size > 0) for choice in choices)
    plain = probabilities(model, None)
    for bits, most in ((8, 0.05), (4, 0.3)):
        difference = mx.abs(probabilities(model, bits) - plain).max().item()
        assert (difference > 0) == (max(group_sizes) > 0) and difference < most


def test_a_combined_cache_is_quantized_inside():
    cache = new_prompt_cache(architectures.build("falcon_h1"), 8)
    assert all(isinstance(layer, CacheList) for layer in cache)
    assert any(isinstance(layer, QuantizedKVCache) for layer in flat_layers(cache))


class Attention(nn.Module):
    """Layers of one head; those in ``direct`` add the keys up themselves."""

    def __init__(self, sizes: list[tuple[int, int]], direct: set[int] = frozenset()):
        super().__init__()
        self.layers = [nn.Identity() for _ in sizes]
        self.sizes, self.direct, self.num_passes = sizes, direct, 0

    def __call__(self, tokens: mx.array, cache: list) -> mx.array:
        self.num_passes += 1
        B, L = tokens.shape
        total = mx.zeros((B, L, 1))
        for i, ((key, value), layer) in enumerate(zip(self.sizes, cache, strict=True)):
            keys, values = layer.update_and_fetch(
                mx.ones((B, 1, L, key)), mx.ones((B, 1, L, value))
            )
            if i in self.direct:
                total = total + (keys.sum() + values.sum())
        return total


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((128, 128), 64),
        ((96, 96), 32),
        ((64, 128), 64),
        ((192, 32), 32),
        ((80, 80), 0),
        ((256, 48), 0),
    ],
)
def test_a_group_divides_the_keys_and_the_values(sizes, expected):
    (choice,) = kv_choices(Attention([sizes])).caches
    assert choice.group_size == expected


def test_only_the_layers_that_need_their_keys_stay():
    model = Attention([(64, 64)] * 6, direct={0, 3, 4})
    found = kv_choices(model)
    assert [choice.group_size for choice in found.caches] == [0, 64, 64, 0, 0, 64]
    reason = "used by the model in another way"
    assert found.text(4) == (
        f"kv_cache_bits = 4 quantizes 3 of 6 layers; not 0, 3-4 ({reason})"
    )
    passes = model.num_passes
    kv_choices(model)
    new_prompt_cache(model, 8)
    assert model.num_passes == passes  # found once


def test_a_model_that_allows_no_layer_is_tried_a_few_times_only():
    model = Attention([(64, 64)] * 60, direct=set(range(60)))
    assert not any(choice.group_size for choice in kv_choices(model).caches)
    assert model.num_passes < 10


def test_nothing_is_quantized_without_bits():
    assert all(type(layer) is KVCache for layer in new_prompt_cache(Attention([(64, 64)])))


def test_the_text_names_each_reason_with_its_layers():
    choices = [LayerChoice(i, 0, "states") for i in (0, 1, 2, 4)]
    found = KVChoices((*choices, LayerChoice(3, 64), LayerChoice(5, 0, "head size 80")))
    assert found.text(8) == (
        "kv_cache_bits = 8 quantizes 1 of 6 layers; not 0-2, 4 (states), 5 (head size 80)"
    )
