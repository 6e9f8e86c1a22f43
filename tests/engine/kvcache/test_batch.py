"""Slots: rows join, leave and grow in place, and every row sees its own tokens only."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import llama
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import KVCache

from mlxnode.engine.cpu import attention
from mlxnode.engine.kvcache.batch import BatchCache
from mlxnode.engine.kvcache.budget import measure_caches
from mlxnode.engine.kvcache.layers import plain
from mlxnode.engine.kvcache.layers.plain import SlotCache
from mlxnode.engine.kvcache.prompt_cache import arrays_of, new_prompt_cache
from mlxnode.engine.kvcache.slots import Slots, num_positions, num_slots


def tokens_of(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, 259, count).tolist()


class Batch:
    """Rows of a model in a batch, each beside the same row alone."""

    def __init__(self, model, bits: int | None = None):
        self.model, self.bits = model, bits
        self.cache = BatchCache()
        self.alone: list = []

    def join(self, *lengths: int) -> None:
        rows = []
        for length in lengths:
            row, alone = (new_prompt_cache(self.model, self.bits) for _ in range(2))
            if length:
                prompt = mx.array([tokens_of(length, length)])
                for target in (row, alone):
                    self.model(prompt, cache=target)
            rows.append(row)
            self.alone.append(alone)
        self.cache.join(rows)

    def leave(self, *indices: int) -> None:
        self.alone = [self.alone[i] for i in self.cache.leave(indices)]

    def step(self, seed: int, count: int = 1, kept: int = 1) -> None:
        """Run the model on ``count`` tokens of every row, of which the first ``kept`` hold.

        Both ways give the same logits.
        """
        tokens = mx.array(tokens_of(seed, len(self.alone) * count)).reshape(-1, count)
        logits = self.model(tokens, cache=self.cache.layers)
        self.cache.advance([kept] * len(self.alone))
        for i, row in enumerate(self.alone):
            expected = self.model(tokens[i, :kept][None], cache=row)[0]
            # What is rounded to 8 bits may fall to either side.
            atol = 0.1 if self.bits else 2e-3
            assert np.allclose(logits[i, :kept], expected, atol=atol), i


@pytest.fixture(params=["batched", "row by row"])
def attend(request, monkeypatch):
    chosen = attention.attend if request.param == "row by row" else attention._batched
    monkeypatch.setattr(llama, "scaled_dot_product_attention", chosen)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [None, 8])
def test_rows_in_a_batch_are_as_they_are_alone(model_of, attend, bits):
    batch = Batch(model_of(64), bits)
    batch.join(5, 130, 1)
    batch.step(1)
    batch.join(0, 40)
    for seed in range(2, 6):
        batch.step(seed)
    batch.leave(1)
    batch.step(6)
    batch.leave(0, 3)
    batch.join(127, 3, 9)
    for seed in range(7, 12):
        batch.step(seed)
    batch.step(12, count=4, kept=3)
    batch.step(13, count=9, kept=1)
    batch.step(14)
    batch.leave(*range(len(batch.alone)))
    assert batch.cache.layers == []
    batch.join(4)
    batch.step(15)


def test_rows_move_into_the_places_of_those_that_leave(model):
    batch = Batch(model)
    batch.join(*range(1, 7))
    assert batch.cache.leave([1, 4]) == [0, 5, 2, 3]
    assert batch.cache.lengths == [1, 6, 3, 4]
    assert batch.cache.leave([3]) == [0, 1, 2]


def test_joining_and_leaving_write_one_row_and_copy_no_other(model, monkeypatch):
    batch = Batch(model)
    batch.join(*[100] * 7)
    batch.step(1)
    written, enlarged = [], []
    write, enlarge = SlotCache.write, plain._enlarged
    monkeypatch.setattr(
        SlotCache,
        "write",
        lambda self, slot, row: (
            written.append(sum(array.nbytes for array in row)),
            write(self, slot, row),
        )[1],
    )
    monkeypatch.setattr(
        plain,
        "_enlarged",
        lambda array, *shape: enlarged.append(shape) or enlarge(array, *shape),
    )
    token = sum(array.nbytes for array in arrays_of(batch.alone[0][0])) // 101
    batch.join(20)
    assert written == [20 * token] * len(batch.cache.layers)
    written.clear()
    batch.leave(2)  # the one that joined moves into its place
    assert written == [20 * token] * len(batch.cache.layers)
    assert enlarged == []
    written.clear()
    batch.join(30, 30)
    assert len(enlarged) == 2 * len(batch.cache.layers)  # a ninth row: four slots more
    assert enlarged[0][0] == 12


def test_memory_is_given_back_when_half_of_it_would_do(model):
    batch = Batch(model)
    batch.join(*[20] * 9, 300)
    batch.step(1)

    def shape() -> tuple[int, ...]:
        return batch.cache.layers[0].state[0].shape[::2]

    assert shape() == (12, 384)
    batch.leave(9)  # the long one
    assert shape() == (12, 128)
    batch.leave(0, 1, 2)
    batch.step(2)
    assert shape() == (12, 128)  # six rows: nearly half of the slots are in use
    batch.leave(0, 1)
    assert shape() == (4, 128)
    batch.join(5)
    batch.step(3)


def test_a_step_writes_into_the_arrays_that_are_there(model):
    batch = Batch(model)
    batch.join(*[500] * 12)
    batch.step(1)
    size = sum(layer.nbytes for layer in batch.cache.layers)
    tokens = mx.array(tokens_of(2, 12))
    mx.eval(tokens, [layer.state for layer in batch.cache.layers])
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for _ in range(3):
        logits = model(tokens[:, None], cache=batch.cache.layers)
        batch.cache.advance([1] * len(batch.alone))
        mx.eval(logits, [layer.state for layer in batch.cache.layers])
    assert mx.get_peak_memory() - before < 0.5 * size


@pytest.mark.parametrize(("lengths", "count"), [([9], 2), ([9, 9], 2), ([9, 4, 9], 3)])
def test_a_write_adds_few_nodes(lengths, count):
    """One write, its view, and the shape of the update where rows are of unequal lengths."""
    shared = Slots()
    shared.lengths = lengths
    layer = SlotCache(shared, KVCache())
    new = mx.ones((len(lengths), 2, 1, 8))
    layer.update_and_fetch(new, new)
    mx.eval(layer.state)
    names = []
    mx.export_function(
        lambda part: names.append(part["name"]) if part["type"] == "primitive" else None,
        layer.update_and_fetch,
        new,
        new + 1,
    )
    assert len(names) == 2 * count, names


def test_sizes_are_counted_as_they_are_allocated(model):
    sizes = measure_caches(model)
    batch = Batch(model)
    batch.join(*range(100, 105))
    batch.step(1)
    batch.join(*range(190, 195))
    batch.step(2)
    size = sum(layer.nbytes for layer in batch.cache.layers)
    assert size == sizes.batch(10, 196)
    assert (num_slots(10), num_positions(196)) == (12, 256)
    assert [num_slots(rows) for rows in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 8]


@pytest.mark.parametrize("bits", [None, 4])
def test_an_extracted_row_goes_on_where_it_was(model_of, bits):
    batch = Batch(model_of(64), bits)
    batch.join(30, 12)
    batch.step(1)
    [alone] = batch.alone[1:]
    row = batch.cache.extract(1, 13)
    token = mx.array([[7]])
    model = batch.model
    assert np.allclose(model(token, cache=row), model(token, cache=alone), atol=2e-3)


def test_targets_are_the_slots_heads_and_positions_of_the_next_tokens():
    shared = Slots()
    shared.lengths = [0, 3]
    slots, heads, positions = shared.targets(2, 2)
    assert slots.tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert heads.tolist() == [[[0, 0], [1, 1]], [[0, 0], [1, 1]]]
    assert positions.tolist() == [[[0, 1], [0, 1]], [[3, 4], [3, 4]]]
    assert shared.targets(2, 2)[0] is slots  # the layers share them
    shared.lengths = [1, 3]
    assert shared.targets(2, 1)[2].tolist() == [[[1], [1]], [[3], [3]]]


def test_the_mask_hides_what_is_not_there():
    shared = Slots()
    shared.lengths = [0, 3]
    assert shared.mask(1, None)[:, 0, 0].tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert shared.mask(1, 2)[1, 0, 0].tolist() == [0, 0, 1, 1]
    assert shared.mask(2, None)[1, 0].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert shared.is_causal(shared.mask(1, None)) and not shared.is_causal(shared.mask(1, 2))


def test_rows_of_one_length_need_no_array():
    shared = Slots()
    shared.lengths = [5, 5]
    assert shared.offset == 5 and shared.mask(1, None) is None
    assert shared.mask(3, None) == "causal" == shared.mask(3, 8)
    assert all(map(shared.is_causal, (None, "causal", shared.mask(3, None, as_array=True))))
    assert shared.mask(1, 6) is None  # six tokens are inside of the window
    shared.lengths = [4, 5]
    assert shared.offset.tolist() == [4, 5]
    assert shared.mask(1, None).shape == (2, 1, 1, 6)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("window", [None, 2, 4, 100])
def test_masks_of_rows_of_one_length_are_those_of_mlx_lm(count, window):
    shared = Slots()
    shared.lengths = [140, 140, 140]
    expected = create_causal_mask(count, 140, window_size=window)
    mask = shared.mask(count, window, as_array=True)
    if mask is None:
        assert expected.all()
    else:
        assert mask.shape == (1, 1, count, 140 + count)
        assert mx.array_equal(mask[0, 0], expected)
