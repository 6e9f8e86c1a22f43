"""The engine as on a GPU: what the kernels sample is what the operations sample."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from llguidance import LLMatcher
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models import base, llama
from mlx_lm.utils import load_model
from support import tiny
from support.engine_process import serve_tiny
from support.running import collect, make, make_runner, mixed, run, updates
from support.tables import some_of

from mlxnode.engine.cpu.attention import attend
from mlxnode.engine.decode.request import Request
from mlxnode.engine.embedding.embedder import Embedder
from mlxnode.engine.loader import load_generation_model
from mlxnode.kernels import backend
from mlxnode.kernels.backend import OPS, Kernels

FIXTURES = Path(__file__).parents[1] / "fixtures" / "embeddings"
PENALTIES = {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.2}
FORMATS = {
    "float32": (mx.float32, None),
    "float16": (mx.float16, None),
    "bfloat16": (mx.bfloat16, None),
    "4-bit": (mx.bfloat16, 4),
    "8-bit": (mx.float16, 8),
}


@pytest.fixture(scope="module", params=some_of(FORMATS, ["bfloat16", "4-bit"]))
def folder(request, tmp_path_factory) -> Path:
    """A tiny chat model whose weights have the format on disk."""
    dtype, bits = FORMATS[request.param]
    source = tiny.make_chat_model(
        tmp_path_factory.mktemp("source"), hidden=128, heads=2, kv_heads=1
    )
    model = load_model(source)[0]
    model.set_dtype(dtype)
    settings = json.loads((source / "config.json").read_text())
    if bits is not None:
        nn.quantize(model, group_size=32, bits=bits)
        settings["quantization"] = {"group_size": 32, "bits": bits}
    target = tmp_path_factory.mktemp("target")
    shutil.copytree(source, target, dirs_exist_ok=True)
    (target / "config.json").write_text(json.dumps(settings))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(target / "model.safetensors"), weights, metadata={"format": "mlx"})
    return target


@pytest.fixture
def model(folder, gpu) -> nn.Module:
    model = load_generation_model(serve_tiny(folder))
    model.folder = folder
    return model


@pytest.fixture
def kernels(gpu) -> Kernels:
    return backend.choose("metal")


def fixed_chunks(runner) -> None:
    """Chunks by count, not by time: the passes of two runs are then the same."""
    runner._pacing.chunk_size = lambda **_: 64


def both(model: nn.Module, kernels: Kernels, make_requests, **config) -> list[dict]:
    """What the kernels give, and what the operations give."""
    found = []
    for some in (kernels, OPS):
        runner = make_runner(model, some, **config)
        fixed_chunks(runner)
        found.append(run(runner, *make_requests()))
    return found


def test_weights_keep_their_format(model, folder):
    saved = mx.load(str(folder / "model.safetensors"))
    loaded = dict(tree_flatten(model.parameters()))
    assert {name: array.dtype for name, array in loaded.items()} == {
        name: array.dtype for name, array in saved.items()
    }
    assert llama.scaled_dot_product_attention is base.scaled_dot_product_attention
    assert llama.scaled_dot_product_attention is not attend


@pytest.mark.long
def test_greedy_and_sampled_rows(model, kernels):
    by_kernel, by_operations = both(model, kernels, lambda: [mixed(uid) for uid in range(5)])
    assert by_kernel == by_operations
    assert [len(by_kernel[uid]) for uid in range(5)] == [10, 11, 12, 13, 14]


def guided(uid: int, grammar: str | None) -> Request:
    parameters = [
        PENALTIES,
        {"grammar": grammar},
        {"logit_bias": {50: 3.0}, "min_tokens": 8},
        {"top_logprobs": 20},
        PENALTIES | {"temperature": 0.0, "top_logprobs": 5},
    ][uid % 5]
    return make(
        uid, prompt=3 + uid, max_tokens=12, stop=[2], **({"temperature": 0.9} | parameters)
    )


def test_penalties_biases_grammars_and_logprobs(model, kernels, gpu):
    # A grammar compiles beside the steps, so its row joins other rows each time: on a real GPU,
    # a product rounds otherwise then.
    is_exact = gpu == "emulated"
    grammar = LLMatcher.grammar_from_regex("[a-z ]{2,30}") if is_exact else None
    by_kernel, by_operations = both(
        model, kernels, lambda: [guided(uid, grammar) for uid in range(5)]
    )
    assert by_kernel == by_operations


def test_logprobs_of_tokens_and_of_prompts(model, kernels):
    def scores(some: Kernels) -> list[tuple[int, float]]:
        asking = make(0, prompt=40, max_tokens=6, scores_prompt=True, top_logprobs=3)
        runner = make_runner(model, some)
        fixed_chunks(runner)
        emitted = updates(runner, asking, make(1, prompt=9))
        tokens = [t for update in emitted if update.uid == 0 for t in update.prompt or []]
        tokens += [t for update in emitted if update.uid == 0 for t in update.tokens]
        return [(token.id, token.logprob or 0.0) for token in tokens]

    by_kernel, by_operations = scores(kernels), scores(OPS)
    assert [id for id, _ in by_kernel] == [id for id, _ in by_operations]
    np.testing.assert_allclose(
        [x for _, x in by_kernel], [x for _, x in by_operations], atol=1e-4
    )


def test_drafts(model, kernels):
    def repeating() -> list[Request]:
        requests = [make(uid, max_tokens=30, temperature=0.7 * (uid % 2)) for uid in range(2)]
        for request in requests:
            request.prompt = request.prompt * 4
        return requests

    by_kernel, by_operations = both(model, kernels, repeating, num_speculative_tokens=8)
    assert by_kernel == by_operations


def test_rows_join_and_leave_at_any_step(model, kernels):
    found = []
    for some in (kernels, OPS):
        runner, tokens = make_runner(model, some, max_batch_size=2), {}
        fixed_chunks(runner)
        for uid in range(5):
            runner.add_request(mixed(uid))
            for _ in range(uid % 4):
                collect(runner, tokens)
        while runner.has_work:
            collect(runner, tokens)
        found.append(tokens)
    assert found[0] == found[1]


def test_a_row_of_a_batch_gets_the_tokens_that_it_gets_alone(model, kernels, gpu, folder):
    if gpu == "real" and load_model(folder)[0].model.norm.weight.dtype != mx.float32:
        pytest.skip("a GPU multiplies one row and several by other kernels, and halves differ")
    together = run(make_runner(model, kernels), *(mixed(uid) for uid in range(4)))
    for uid in range(4):
        assert run(make_runner(model, kernels), mixed(uid))[uid] == together[uid]


def test_quantized_kv_cache(model, kernels):
    by_kernel, by_operations = both(
        model, kernels, lambda: [mixed(uid) for uid in range(3)], kv_cache_bits=8
    )
    assert by_kernel == by_operations


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("name", ["bert", "modernbert", "qwen3"])
def test_embedder(name, dtype, kernels, tmp_path):
    folder = tmp_path / name
    shutil.copytree(FIXTURES / name, folder)
    file = folder / "model.safetensors"
    weights = {key: array.astype(dtype) for key, array in mx.load(str(file)).items()}
    mx.eval(list(weights.values()))
    mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})
    served = serve_tiny(folder, type="embedding", architecture=name)
    inputs = [[1, 5, 9, 2], [1, 7, 2], [1, *range(3, 20), 2]]
    vectors = []
    for some in (kernels, OPS):
        seen: list[mx.Dtype] = []

        def pool(hidden, columns, *, normalize, pool=some.pool, seen=seen):
            seen.append(hidden.dtype)
            return pool(hidden, columns, normalize=normalize)

        embedder = Embedder.load(served, some._replace(pool=pool))
        vectors.append(np.stack(embedder.embed(inputs, [None] * len(inputs))))
        assert seen == [dtype]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors[0], axis=-1), 1.0, rtol=1e-5)
