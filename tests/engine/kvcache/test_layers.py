"""Every kind of cache: a row in a batch is as it is alone; joins and leaves move one row."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import ArraysCache, ConcatenateKVCache, KVCache, RotatingKVCache
from support import architectures

from mlxnode.engine.kvcache.batch import BatchCache
from mlxnode.engine.kvcache.budget import measure_caches
from mlxnode.engine.kvcache.layers.factory import can_share_arrays
from mlxnode.engine.kvcache.layers.windows import WindowCache
from mlxnode.engine.kvcache.padding import can_pad
from mlxnode.engine.kvcache.prompt_cache import evaluate, new_prompt_cache
from mlxnode.engine.kvcache.separate import SeparateRows, new_batch_cache
from mlxnode.engine.kvcache.slots import Slots, num_slots
from mlxnode.errors import ModelError

# One architecture for each kind of cache, and for what its layers ask of it.
QUICK = {
    "gpt_oss": "windows, with attention sinks",
    "qwen3_5": "states",
    "mamba": "states alone, of a model that asks for their class",
    "falcon_h1": "states and keys in one layer",
    "gemma3n": "layers that share keys, of windows too",
    "deepseek_v32": "two caches of keys, one of which the model writes to",
    "llama4": "chunked attention",
    "afm7": "positions from the shape of shared keys",
}
OTHERS = [
    *("afmoe", "baichuan_m1", "bailing_moe_linear", "cohere2", "deepseek_v2", "exaone4"),
    *("gemma3_text", "gemma4_text", "glm_moe_dsa", "granitemoehybrid", "iquestloopcoder"),
    *("kimi_linear", "lfm2", "longcat_flash", "longcat_flash_ngram", "mamba2"),
    *("mimo_v2_flash", "minimax", "ministral3", "nemotron_h", "olmo3", "olmo_hybrid"),
    *("qwen3_next", "recurrent_gemma", "rwkv7", "step3p5"),
]


def tokens_of(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, 280, count).tolist()


class Beside:
    """Rows in a batch, each beside the same row alone."""

    def __init__(self, name: str, width: int = 1):
        self.model = architectures.build(name)
        self.cache = new_batch_cache(self.model, width)
        self.alone: list = []

    def join(self, *lengths: int) -> None:
        rows, others = [self._prefilled(lengths) for _ in range(2)]
        self.cache.join(rows, lengths)
        self.alone += others

    def _prefilled(self, lengths: tuple[int, ...]) -> list:
        caches = [new_prompt_cache(self.model) for _ in lengths]
        for length, cache in zip(lengths, caches, strict=True):
            self.model(mx.array([tokens_of(length, length)]), cache=cache)
            evaluate(cache)
        return caches

    def leave(self, *indices: int) -> None:
        self.alone = [self.alone[i] for i in self.cache.leave(indices)]

    def step(self, seed: int, count: int = 1, kept: int = 1) -> None:
        """Run on ``count`` tokens of each row, of which the first ``kept`` hold."""
        rows = len(self.alone)
        tokens = mx.array(tokens_of(seed, rows * count)).reshape(rows, count)
        self.cache.reserve(count)
        logits = self.cache.run(self.model, tokens)
        self.cache.advance([kept] * rows)
        for i, row in enumerate(self.alone):
            expected = self.model(tokens[i : i + 1, :kept], cache=row)[0]
            assert_close(logits[i, :kept], expected)


def assert_close(got: mx.array, expected: mx.array) -> None:
    scale = mx.abs(expected).max().item()
    assert scale > 1e-3  # the model says something
    assert np.allclose(got, expected, rtol=0, atol=1e-4 * scale)


def stagger(name: str) -> Beside:
    """Rows join, leave and pass the end of the window, which is 16 tokens or fewer."""
    batch = Beside(name)
    batch.join(5, 17, 1)
    for seed in range(14):
        batch.step(seed)
    batch.join(30)
    batch.step(20)
    batch.leave(0)
    batch.step(21)
    batch.leave(1)
    batch.join(3, 40)
    for seed in range(30, 33):
        batch.step(seed)
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_rows_of_every_kind_are_as_they_are_alone(name):
    batch = stagger(name)
    kind = SeparateRows if name in ("llama4", "afm7") else BatchCache
    assert type(batch.cache) is kind
    index = len(batch.alone) - 1
    row = batch.cache.extract(index, batch.cache.lengths[index])
    assert row is not None
    classes = [type(layer) for layer in row]
    assert classes == [type(layer) for layer in batch.alone[index]]
    batch.step(40)  # what was extracted does not change with the batch
    expected = batch.model(mx.array([[9]]), cache=row)
    batch = stagger(name)
    assert_close(expected, batch.model(mx.array([[9]]), cache=batch.alone[index]))
    batch.leave(*range(len(batch.alone)))
    assert list(batch.cache.layers) == []
    batch.join(4, 2)
    batch.step(50)


@pytest.mark.parametrize("name", ["gpt_oss", "gemma3n"])
def test_tokens_that_are_taken_back_leave_the_window_as_it_was(name):
    batch = Beside(name, width=5)
    batch.join(3, 14, 40)
    assert batch.cache.can_rewind
    for seed, kept in enumerate([1, 3, 5, 2, 1, 4]):
        batch.step(seed, count=5, kept=kept)
        batch.step(10 + seed)
    batch.leave(0)
    batch.join(9)
    batch.step(20, count=5, kept=2)
    batch.step(21)


def test_a_pass_that_is_too_long_for_the_ring_is_refused():
    batch = Beside("gpt_oss", width=2)
    batch.join(3)
    with pytest.raises(ValueError, match="at most 2 tokens to a row, got 3"):
        batch.step(1, count=3)


@pytest.mark.parametrize("name", ["qwen3_5", "gpt_oss", "llama4"])
def test_layers_that_cannot_be_cut_are_copied_as_they_are(name):
    batch = Beside(name, width=4)
    batch.join(6, 29)
    assert batch.cache.can_rewind is (name == "gpt_oss")
    [alone] = batch.alone[1:]
    for layer, expected in zip(batch.cache.extract(1, 20), alone, strict=True):
        assert type(layer) is type(expected)
        if isinstance(layer, KVCache):
            assert layer.offset == 20
        elif not isinstance(layer, ArraysCache):
            assert layer.offset == 29


@pytest.mark.parametrize(
    ("like", "name"),
    [
        (RotatingKVCache(16, keep=4), "RotatingKVCache that keeps the first tokens"),
        (ConcatenateKVCache(), "ConcatenateKVCache"),
    ],
)
def test_a_cache_of_another_kind_is_refused_by_name(like, name):
    with pytest.raises(ModelError, match=rf"its cache \({name}\) is not served"):
        can_share_arrays([KVCache(), like])


@pytest.mark.parametrize(
    "name", ["mamba", "nemotron_h", "rwkv7", "recurrent_gemma", "llama4", "afm7"]
)
def test_prompts_are_not_padded_where_padding_changes_a_state(name):
    assert not can_pad(architectures.build(name))


@pytest.mark.parametrize("name", ["gpt_oss", "qwen3_5", "falcon_h1", "llama"])
def test_prompts_are_padded_where_padding_changes_nothing(name):
    model = architectures.build(name)
    assert can_pad(model)
    lengths = [3, 21, 40]
    batch, alone = BatchCache(width=40), []
    batch.join([new_prompt_cache(model) for _ in lengths], [0] * 3)
    prompts = [tokens_of(length, length) for length in lengths]
    padded = mx.array([prompt + [0] * (40 - len(prompt)) for prompt in prompts])
    logits = batch.run(model, padded, lengths)
    batch.advance(lengths)
    for i, prompt in enumerate(prompts):
        alone.append(new_prompt_cache(model))
        expected = model(mx.array([prompt]), cache=alone[i])[0, -1]
        assert_close(logits[i, lengths[i] - 1], expected)
        row = batch.extract(i, lengths[i])
        token = mx.array([[9]])
        assert_close(model(token, cache=row), model(token, cache=alone[i]))


# --- costs ---------------------------------------------------------------------------

_ROWS = 16
_SIDE = 64


def window_row(length: int) -> RotatingKVCache:
    cache = RotatingKVCache(max_size=_SIDE)
    cache.update_and_fetch(*mx.random.normal((2, 1, 1, length, _SIDE)))
    mx.eval(cache.keys, cache.values)
    return cache


def states_row(length: int) -> ArraysCache:
    cache = ArraysCache(2)
    for i in range(2):
        cache[i] = mx.random.normal((1, _SIDE, _SIDE))
    mx.eval(cache.cache)
    return cache


class OneLayer:
    """A batch of one layer, whose memory is measured in rows."""

    def __init__(self, make, rows: int):
        self.make, self.cache = make, BatchCache()
        self.join(rows)
        self.row_bytes = 2 * 4 * _SIDE * _SIDE

    def join(self, rows: int) -> None:
        self.cache.join([[self.make(100)] for _ in range(rows)], [100] * rows)
        evaluate(self.cache.layers)

    def leave(self, *indices: int) -> None:
        self.cache.leave(indices)
        evaluate(self.cache.layers)

    def peak(self, run, *arguments: int) -> float:
        """The rows that ``run`` allocates beside what is there."""
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        run(*arguments)
        return (mx.get_peak_memory() - before) / self.row_bytes


@pytest.mark.parametrize("make", [window_row, states_row])
def test_a_row_that_leaves_or_takes_its_slot_is_the_only_one_that_is_copied(make):
    batch = OneLayer(make, _ROWS)
    for index in (3, 0, 9):
        assert batch.peak(batch.leave, index) < 2.5
        assert batch.peak(batch.join, 1) < 3.5  # the row itself, and its copy
    assert batch.peak(batch.leave, _ROWS - 1) < 0.5  # the last row


def test_a_window_joins_free_slots_and_a_larger_batch_copies_its_states_once():
    windows = OneLayer(window_row, _ROWS - 3)
    assert windows.peak(windows.join, 1) < 3.5
    states = OneLayer(states_row, _ROWS)
    assert states.peak(states.join, 1) < _ROWS + 3.5


@pytest.mark.parametrize("name", ["gpt_oss", "qwen3_5", "falcon_h1", "gemma3n", "mamba"])
def test_sizes_are_counted_as_they_are_allocated(name):
    width = 5
    batch = Beside(name, width)
    sizes = measure_caches(batch.model, surplus=width - 1)
    batch.join(100, 30, 7)
    batch.step(1)
    size = sum(layer.nbytes for layer in batch.cache.layers)
    states = sum(layer.fixed for layer in sizes.layers)
    # The states have no free slot.
    assert size == sizes.batch(3, 97) - (num_slots(3) - 3) * states
    batch.leave(0)
    assert batch.cache.capacity[1] in (0, 128)
    size = sum(layer.nbytes for layer in batch.cache.layers)
    assert size <= sizes.batch(2, 31, batch.cache.capacity)


def test_the_mask_of_a_ring_shows_the_window_of_each_row():
    slots = Slots()
    slots.lengths = [2, 9]
    layer = WindowCache(slots, RotatingKVCache(max_size=3), width=2)  # a ring of 4
    mask = layer.make_mask(1)
    # Position 2 attends to 0, 1 and 2; position 9, which is at 9 % 4, to 7, 8 and 9.
    assert mask[:, 0, 0].tolist() == [[True, True, True, False], [True, True, False, True]]
    assert layer.make_mask(1, window_size=2)[1, 0, 0].tolist() == [True, True, False, False]
    assert layer.make_mask(1) is mask  # once for all layers
    slots.lengths = [2, 2]
    assert layer.make_mask(1) is None  # all keys
    assert layer.make_mask(2).shape == (2, 1, 2, 4)
