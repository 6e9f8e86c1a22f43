"""The batch in a pipelined run: MLX writes the new keys and values in place, and copies none.

All on the CPU backend, which keeps the same references as a GPU to what is in flight.
"""

from collections.abc import Iterator

import mlx.core as mx
import pytest
from mlx import nn
from mlx_lm.models.cache import KVCache, RotatingKVCache
from mlx_lm.utils import load_model
from support import tiny
from support.running import make

from mlxnode.engine.decode.batch import Batch
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.sampling import Sampler
from mlxnode.engine.kvcache.prompt_cache import plain_cache
from mlxnode.kernels.backend import OPS

HEAD = 128
LENGTH = 3000  # tokens, so that a copy of a layer is larger than all other arrays


@pytest.fixture(autouse=True)
def cpu() -> Iterator[None]:
    with mx.stream(mx.cpu):
        yield


class ShortModel(nn.Module):
    """Layers of bare attention: a step has less work than MLX's CPU backend keeps in flight."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.layers = [None] * num_layers
        self.embedding = nn.Embedding(259, HEAD)

    def __call__(self, tokens: mx.array, cache: list) -> mx.array:
        x = self.embedding(tokens)[:, None]  # [B, 1, N, D]
        for layer in cache:
            keys, values = layer.update_and_fetch(x, x)
            mask = layer.make_mask(tokens.shape[1])
            x = mx.fast.scaled_dot_product_attention(x, keys, values, scale=1.0, mask=mask)
        return self.embedding.as_linear(x[:, 0])


@pytest.fixture(scope="module")
def short_model() -> nn.Module:
    return ShortModel(num_layers=1)


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory) -> nn.Module:
    folder = tmp_path_factory.mktemp("deep")
    tiny.make_chat_model(folder, layers=8, hidden=HEAD, heads=1, kv_heads=1)
    return load_model(folder)[0]


class LateBatch(Batch):
    """A batch whose device lags behind the host, as a GPU does."""

    def forward(self) -> None:
        mx.async_eval(mx.linalg.svd(mx.ones((160, 160)), compute_uv=False))
        super().forward()


def batch_of(model: nn.Module, lengths: list[int], kind: type[Batch] = LateBatch) -> Batch:
    """Running rows with a cache of these lengths; the prompts are not processed."""
    batch = kind(model, Sampler(OPS))
    join(batch, model, lengths)
    return batch


def running(uid: int, length: int) -> Request:
    """A request with its first token."""
    request = make(uid, prompt=length, max_tokens=1000)
    request.accept(7)
    request.num_sampled = 1
    return request


def join(batch: Batch, model: nn.Module, lengths: list[int]) -> None:
    requests = []
    for length in lengths:
        request = running(len(batch) + len(requests), length)
        keys, values = mx.random.normal((2, 1, 1, length, HEAD))
        layer = plain_cache((keys, values), length, like=KVCache())
        mx.eval(layer.state)
        request.cache = [layer] * len(model.layers)
        requests.append(request)
    batch.join(requests)


def step(batch: Batch) -> None:
    """One step as the runner does it."""
    batch.forward()
    batch.read()
    batch.sample(started_at=0.0)


def cache_bytes(batch: Batch) -> int:
    return sum(layer.nbytes for layer in batch._cache.layers)


def at_rest(batch: Batch) -> tuple[int, int]:
    """Bytes of the cache, and of all active memory, after two steps; no work is in flight."""
    for _ in range(2):
        step(batch)
    batch.read()
    mx.eval([layer.state for layer in batch._cache.layers])
    mx.reset_peak_memory()
    return cache_bytes(batch), mx.get_active_memory()


def copied(batch: Batch, steps: int = 4) -> float:
    """The peak of MLX's memory above the active memory, as a share of the batch's cache."""
    size, before = at_rest(batch)
    for _ in range(steps):
        step(batch)
    batch.read()
    return (mx.get_peak_memory() - before) / size


@pytest.mark.parametrize("lengths", [[LENGTH], [LENGTH] * 3, [LENGTH, LENGTH - 900, 40]])
def test_a_pipelined_run_copies_no_cache(short_model, deep_model, lengths):
    assert copied(batch_of(short_model, lengths)) < 0.25
    assert copied(batch_of(ShortModel(num_layers=2), lengths)) < 0.25
    assert copied(batch_of(deep_model, lengths, Batch)) < 0.25


def test_a_pipelined_run_copies_no_cache_after_joins_and_leaves(short_model):
    batch = batch_of(short_model, [LENGTH, 2500, 50])
    for _ in range(3):
        step(batch)
    batch.leave([batch.rows[0]])
    step(batch)
    join(batch, short_model, [1000])
    assert copied(batch) < 0.25


def test_a_pipelined_run_copies_no_cache_after_drafts(short_model):
    batch = batch_of(short_model, [LENGTH, 2500])
    batch.verify([[1, 2, 3], [4]], started_at=0.0)
    batch.read()
    assert copied(batch) < 0.25


@pytest.mark.parametrize("kind", [Batch, LateBatch])
@pytest.mark.parametrize("lengths", [[LENGTH], [LENGTH + 7] * 3, [LENGTH, LENGTH + 900, 40]])
def test_a_pipelined_run_copies_no_cache_of_a_window(kind, lengths):
    model = ShortModel(num_layers=2)
    batch = kind(model, Sampler(OPS), num_draft_tokens=8)
    requests = [running(uid, length) for uid, length in enumerate(lengths)]
    for request in requests:
        request.cache = [window_of(len(request.prompt)), window_of(len(request.prompt))]
    batch.join(requests)
    assert copied(batch) < 0.25
    batch.leave(requests[1:2])
    assert copied(batch) < 0.25


def window_of(length: int) -> RotatingKVCache:
    window = RotatingKVCache(max_size=LENGTH)
    window.update_and_fetch(*mx.random.normal((2, 1, 1, length, HEAD)))
    mx.eval(window.state)
    return window


@pytest.mark.parametrize("lengths", [[LENGTH], [LENGTH, 2000]])
def test_a_reference_to_a_part_of_the_cache_would_be_seen_as_a_copy(short_model, lengths):
    batch = batch_of(short_model, lengths)
    assert copied(batch) < 0.25
    array = batch._cache.layers[0].state[0]
    held = array[:, :, :1]
    mx.eval(held)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    step(batch)
    step(batch)
    assert mx.get_peak_memory() - before > 0.9 * array.nbytes


def test_a_pass_launched_as_a_whole_would_copy_the_cache(short_model, monkeypatch):
    def forward(self) -> None:
        """Launch the pass while all of the previous one may be in flight."""
        self._logits = self._model(self._inputs[:, None], cache=self._cache.layers)[:, -1]
        self._cache.advance([1] * len(self.rows))
        mx.async_eval(self._logits)

    monkeypatch.setattr(Batch, "forward", forward)
    for lengths in ([LENGTH], [LENGTH, 2000]):
        # On a busy machine, the previous pass may be complete before this one is launched.
        attempts = (copied(batch_of(short_model, lengths)) for _ in range(5))
        assert any(share > 0.9 for share in attempts)


def test_growing_holds_the_old_and_the_new_arrays_of_one_layer():
    batch = batch_of(ShortModel(num_layers=8), [24 * 128 - 3])
    size, before = at_rest(batch)
    step(batch)
    step(batch)
    batch.read()
    larger = cache_bytes(batch)
    assert larger == size * 25 // 24
    assert mx.get_peak_memory() - before < (larger - size) + 1.5 * larger / 8
