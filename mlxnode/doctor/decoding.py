"""The time of decode steps, with the engine's own runner. Imports mlx.

Nothing is read from a model's folder but its weights: prompts are random token ids.
"""

import time
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models import llama

from mlxnode.config.tables import EngineConfig
from mlxnode.engine import cpu
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.work import RequestKey
from mlxnode.kernels import backend
from mlxnode.messages.data import Generate, Sampling

_WARM_UP = 5  # steps
_MAX_SECONDS = 8.0  # of a measurement
_MAX_STEPS = 60


@dataclass(frozen=True)
class Decoding:
    """Decode steps of ``rows`` rows."""

    rows: int
    prefill_seconds: float  # of all prompts
    step_seconds: float


@dataclass(frozen=True)
class Shape:
    """The sizes of a llama."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    prompt: int  # tokens
    vocabulary: int = 32_000

    @property
    def kv_bytes_of_a_token(self) -> int:
        """In half precision."""
        return 2 * 2 * self.layers * self.kv_heads * (self.hidden // self.heads)


# About 0.27 GB in 4 bits: enough that the weights are in no cache of the GPU.
ON_GPU = Shape(hidden=2048, layers=8, intermediate=5632, heads=32, kv_heads=8, prompt=512)
ON_CPU = Shape(hidden=256, layers=4, intermediate=768, heads=4, kv_heads=2, prompt=64)


def random_model(shape: Shape) -> nn.Module:
    """A llama with random 4-bit weights, prepared as the engine prepares a loaded model."""
    model = llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            intermediate_size=shape.intermediate,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            rms_norm_eps=1e-5,
            vocab_size=shape.vocabulary,
            tie_word_embeddings=True,
        )
    )
    model.set_dtype(mx.float16)
    nn.quantize(model, group_size=64, bits=4)
    cpu.install(model)
    mx.eval(model.parameters())
    return model


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights; a decode step reads them once."""
    arrays: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    return sum(array.nbytes for array in arrays.values())


def is_on_gpu() -> bool:
    return mx.default_device() == mx.Device(mx.gpu)


def measure_decoding(model: nn.Module, rows: int, vocabulary: int, prompt: int) -> Decoding:
    """Prefill ``rows`` prompts of that many tokens, then decode for some seconds."""
    config = EngineConfig(max_batch_size=rows, num_speculative_tokens=0)
    budget, kernels = MemoryBudget(10**12), backend.choose("auto")
    runner = TextRunner(TextParts(model, config, budget, _no_grammars, kernels))
    random = np.random.default_rng(rows)
    for i in range(rows):
        message = Generate(
            uid=i,
            model="doctor",
            prompt=random.integers(0, vocabulary, prompt).tolist(),
            max_tokens=200,
            stop_ids=[],
            sampling=Sampling(temperature=0.8, top_p=0.9, seed=i),
        )
        runner.add(RequestKey(0, i), message)
    started_at = time.perf_counter()
    while runner.num_running < rows:
        _step(runner)
    prefill_seconds = time.perf_counter() - started_at
    for _ in range(_WARM_UP):
        _step(runner)
    count, started_at = 0, time.perf_counter()
    while count < _MAX_STEPS and time.perf_counter() - started_at < _MAX_SECONDS:
        _step(runner)
        count += 1
    return Decoding(rows, prefill_seconds, (time.perf_counter() - started_at) / count)


def _step(runner: TextRunner) -> None:
    for _ in runner.step():
        pass


def _no_grammars(vocabulary_size: int, stop_ids: frozenset[int]) -> GrammarCompiler:
    raise ValueError("the requests of the doctor have no grammar")
