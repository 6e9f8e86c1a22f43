"""The kernels' variants are compiled when a model is loaded, not in the step of a request."""

import mlx.core as mx
import pytest
from llguidance import LLMatcher
from mlx_lm.utils import load_model
from support.running import make, make_runner, run

from mlxnode.kernels import backend, pool_metal, sample_metal, sample_ops

REQUESTS = [
    {},
    {"temperature": 0.9, "top_p": 0.8},
    {"logit_bias": {77: 5.0}, "top_logprobs": 3},
    {"temperature": 0.8, "frequency_penalty": 0.5},
    {"temperature": 1.0, "grammar": LLMatcher.grammar_from_regex("[a-z]{4}")},
    {"temperature": 1.0, "top_logprobs": 20},
]


@pytest.fixture(autouse=True)
def checked_kernels(emulated, monkeypatch) -> None:
    """As on a machine with Metal; fewer threads, unchecked: other tests look for faults."""
    monkeypatch.setattr(backend, "_has_metal", lambda: True)
    for module in (sample_metal, sample_ops):
        monkeypatch.setattr(module, "GROUPS", 2)
    monkeypatch.setattr(pool_metal, "THREADS", 64)
    for module in (sample_metal, pool_metal):
        module.kernel().options = {"checked": False}


def requests():
    return [make(uid, max_tokens=5, stop=[2], **each) for uid, each in enumerate(REQUESTS)]


def sources() -> set[str]:
    return {run.source for run in sample_metal.kernel().runs}


def test_nothing_compiles_while_requests_run(model):
    runner = make_runner(model, backend.choose("metal"))
    warm, num_runs = sources(), len(sample_metal.kernel().runs)
    assert len(warm) == 4
    tokens = run(runner, *requests())
    assert sources() == warm
    assert len(sample_metal.kernel().runs) > num_runs + 4
    assert tokens == run(make_runner(model), *requests())


def test_requests_are_answered_the_same_where_a_variant_fails(model, monkeypatch):
    kernel = sample_metal.kernel()

    def without_edits(*, template, **arguments):
        if dict(template)["EDITS"]:
            raise RuntimeError("no matching function")
        return kernel(template=template, **arguments)

    monkeypatch.setattr(sample_metal, "kernel", lambda: without_edits)
    runner = make_runner(model, backend.choose("auto"))
    num_runs = len(kernel.runs)
    tokens = run(runner, *requests(), make(9))
    assert len(kernel.runs) > num_runs  # the last request is alone, without edits
    assert tokens == run(make_runner(model), *requests(), make(9))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_variants_are_those_of_the_dtype_of_the_logits(tiny_folder, dtype):
    asked = []
    model = load_model(tiny_folder)[0]
    model.set_dtype(dtype)
    make_runner(model, backend.OPS._replace(warm=lambda **dtypes: asked.append(dtypes)))
    assert asked == [{"sampling": [dtype]}]
