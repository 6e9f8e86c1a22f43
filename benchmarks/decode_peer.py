"""A decode step beside mlx_lm's BatchGenerator, in one process. Imports mlx.

Both run the same model as MLX alone computes it: what the engine replaces on the CPU is not
installed. They decode in turn, a block of steps each, so that other work of the machine affects
both, and no block begins while the device works for the other one.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from decode_profile import decode, no_grammars
from mlx import nn
from mlx_lm.generate import BatchGenerator
from mlx_lm.models import llama

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.work import RequestKey
from mlxnode.kernels import backend
from mlxnode.messages.data import Generate, Sampling

_LAYERS, _WIDTH, _VOCABULARY = 28, 64, 288
_BLOCKS, _STEPS = 10, 10  # timed blocks of each, steps of a block
_WARM = 3  # steps before each block, which fill the pipeline
_MAX_TOKENS = 8 * _BLOCKS * (_STEPS + _WARM)  # nothing ends meanwhile

Step = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Milliseconds of a step, medians of blocks; ``host`` is CPU time of the thread."""

    batch: int
    lengths: str  # of the rows: "equal" or "mixed"
    wall: float
    wall_peer: float
    wall_ratio: float
    host: float
    host_peer: float
    host_ratio: float


def compare(batches: Sequence[int]) -> list[Comparison]:
    """Greedy rows of equal and of mixed lengths, for each batch size."""
    model = deep_model()
    return [
        _compare(model, batch, lengths)
        for batch in batches
        for lengths in (("equal", "mixed") if batch > 1 else ("equal",))
    ]


def deep_model() -> nn.Module:
    """A llama of many narrow layers: the host's work shows, the device has little to do."""
    arguments = llama.ModelArgs(
        model_type="llama",
        hidden_size=_WIDTH,
        num_hidden_layers=_LAYERS,
        intermediate_size=2 * _WIDTH,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        vocab_size=_VOCABULARY,
    )
    model = llama.Model(arguments)
    mx.eval(model.parameters())
    return model


def _compare(model: nn.Module, batch: int, lengths: str) -> Comparison:
    rng = np.random.default_rng(0)
    prompts = [
        rng.integers(3, _VOCABULARY, 40 if lengths == "equal" else 20 + 37 * i % 60).tolist()
        for i in range(batch)
    ]
    ours, peer = _runner(model, prompts), _peer(model, prompts)
    blocks = [(_block(ours), _block(peer)) for _ in range(_BLOCKS)]
    (wall, host), (wall_peer, host_peer) = np.median(blocks, axis=0).tolist()
    ratios = [(mine[0] / its[0], mine[1] / its[1]) for mine, its in blocks]
    wall_ratio, host_ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
    return Comparison(batch, lengths, wall, wall_peer, wall_ratio, host, host_peer, host_ratio)


def _block(step: Step) -> tuple[float, float]:
    """Milliseconds of a step: wall clock, and CPU time of this thread."""
    for _ in range(_WARM):
        step()
    started, busy = time.perf_counter(), time.thread_time()
    for _ in range(_STEPS):
        step()
    wall, host = time.perf_counter() - started, time.thread_time() - busy
    mx.synchronize()
    return 1000 * wall / _STEPS, 1000 * host / _STEPS


def _runner(model: nn.Module, prompts: list[list[int]]) -> Step:
    config = EngineConfig(max_batch_size=len(prompts), num_speculative_tokens=0)
    kernels = backend.choose("auto")
    runner = TextRunner(TextParts(model, config, MemoryBudget(10**11), no_grammars, kernels))
    for uid, prompt in enumerate(prompts):
        message = Generate(
            uid=uid,
            model="bench",
            prompt=prompt,
            max_tokens=_MAX_TOKENS,
            stop_ids=[],
            sampling=Sampling(temperature=0),
        )
        runner.add(RequestKey(0, uid), message)
    while runner.num_running < len(prompts):
        decode(runner)
    return lambda: decode(runner)


def _peer(model: nn.Module, prompts: list[list[int]]) -> Step:
    stream = mx.default_stream(mx.default_device())
    generator = BatchGenerator(
        model, max_tokens=_MAX_TOKENS, completion_batch_size=len(prompts), stream=stream
    )
    generator.insert(prompts)
    while len(generator.next_generated()) < len(prompts):
        pass
    return generator.next_generated
