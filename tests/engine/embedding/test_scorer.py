"""Rerankers against the logits of transformers, which make_fixtures.py has recorded."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxnode.engine.embedding.encoders import load_encoder
from mlxnode.engine.embedding.queue import EmbeddingQueue
from mlxnode.engine.embedding.scoring.heads import LastTokenHead, load_head
from mlxnode.engine.embedding.scoring.scorer import Scorer
from mlxnode.engine.embedding.scoring.verdict import verdict_row
from mlxnode.errors import ModelError
from mlxnode.models.rerank.config import read_reranker_config
from mlxnode.models.served import ServedModel

FIXTURES = Path(__file__).parents[2] / "fixtures" / "rerankers"
NO_AND_YES = (7, 9)
CLASSIFIERS = (
    "bert",
    "electra",
    "modernbert-cls",
    "modernbert-mean",
    "qwen3-score",
    "roberta",
    "xlm-roberta",
)
VERDICTS = ("qwen3-tied", "qwen3-untied")
TYPED = ("bert", "electra")  # tell the two texts apart


def serve(folder: Path) -> ServedModel:
    config = json.loads((folder / "config.json").read_text())
    return ServedModel(
        id="model",
        type="rerank",
        folder=folder,
        weights=folder,
        architecture=config["model_type"],
        context_length=read_reranker_config(folder).max_length,
        dimensions=None,
        default_temperature=None,
        size_bytes=0,
        created=0,
    )


def load(folder: Path) -> Scorer:
    """The scorer, whose scores are logits."""
    served = serve(folder)
    encoder = load_encoder(served)
    if read_reranker_config(folder).head == "verdict":
        head = LastTokenHead(verdict_row(folder, encoder, NO_AND_YES))
    else:
        head = load_head(served, read_reranker_config(folder), encoder)
    return Scorer(encoder, head, lambda logits: logits)


def expected_of(name: str) -> tuple[list[list[int]], list[int], np.ndarray]:
    """Token ids and starts of each pair, and the logits of transformers."""
    found = np.load(FIXTURES / name / "expected.npz")
    ids = np.split(found["ids"], np.cumsum(found["lengths"])[:-1])
    logits = found["logits"]
    if logits.shape[1] == 2:  # of "no" and "yes"
        logits = logits[:, 1:] - logits[:, :1]
    return [pair.tolist() for pair in ids], found["starts"].tolist(), logits[:, 0]


def score(scorer: Scorer, pairs, starts=()) -> np.ndarray:
    queue = EmbeddingQueue()
    queue.add("request", pairs, None, starts)
    scores = np.full(len(pairs), np.nan)
    while batch := queue.next_batch(4096):
        for item, vector in zip(batch, scorer.compute(batch), strict=True):
            assert vector.shape == (1,) and vector.dtype == np.float32
            scores[item.index] = vector[0]
    return scores


@pytest.mark.parametrize("name", [*CLASSIFIERS, *VERDICTS])
def test_scorer_equals_transformers(name):
    pairs, starts, logits = expected_of(name)
    scorer = load(FIXTURES / name)
    alone = [score(scorer, [pair], [at])[0] for pair, at in zip(pairs, starts, strict=True)]
    np.testing.assert_allclose(alone, logits, atol=3e-5, rtol=1e-5)
    assert np.ptp(logits) > 0.05


@pytest.mark.parametrize("name", [*CLASSIFIERS, *VERDICTS])
def test_scorer_batched_equals_single(name):
    pairs, starts, logits = expected_of(name)
    scorer = load(FIXTURES / name)
    queue = EmbeddingQueue()
    queue.add("request", pairs, None, starts)
    batch = [item for _ in pairs for item in queue.next_batch(1)]  # of several lengths
    together = {i.index: v[0] for i, v in zip(batch, scorer.compute(batch), strict=True)}
    np.testing.assert_allclose([together[i] for i in range(5)], logits, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TYPED)
def test_scorer_tells_the_two_texts_apart(name):
    pairs, starts, logits = expected_of(name)
    scorer = load(FIXTURES / name)
    moved = score(scorer, pairs, [start - 1 for start in starts])
    assert np.abs(moved - logits).min() > 1e-4


def test_scorer_applies_the_activation_of_the_files(tmp_path):
    pairs, starts, logits = expected_of("bert")
    for settings, function in (
        ({}, lambda x: 1 / (1 + np.exp(-x))),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, np.tanh),
        (
            {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
            lambda x: x,
        ),
    ):
        folder = tmp_path / str(len(settings) + len(str(settings)))
        shutil.copytree(FIXTURES / "bert", folder)
        config = json.loads((folder / "config.json").read_text()) | settings
        (folder / "config.json").write_text(json.dumps(config))
        scores = score(Scorer.load(serve(folder)), pairs, starts)
        np.testing.assert_allclose(scores, function(logits), atol=1e-5)


@pytest.mark.parametrize("own", [False, True])
def test_verdict_of_a_quantized_head_is_near(tmp_path, own):
    """As mlx-lm converts it, with or without settings of the head's own."""
    folder = tmp_path / "model"
    shutil.copytree(FIXTURES / "qwen3-untied", folder)
    weights = dict(mx.load(str(folder / "model.safetensors")))
    head = mx.concatenate([weights["lm_head.weight"]] * 2, axis=1)  # rows of 32
    packed, scales, biases = mx.quantize(head, group_size=32, bits=8)
    weights |= {"lm_head.weight": packed, "lm_head.scales": scales, "lm_head.biases": biases}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    settings = {"group_size": 32, "bits": 8}
    if own:
        settings = {"group_size": 64, "bits": 4, "lm_head": settings}
    config = json.loads((folder / "config.json").read_text()) | {"quantization": settings}
    (folder / "config.json").write_text(json.dumps(config))
    row = verdict_row(folder, None, NO_AND_YES)
    np.testing.assert_allclose(row, head[9] - head[7], atol=0.02)


def test_load_names_a_missing_weight_of_the_head(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(FIXTURES / "roberta", folder)
    weights = dict(mx.load(str(folder / "model.safetensors")))
    del weights["classifier.out_proj.bias"]
    mx.eval(weights)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    with pytest.raises(ModelError, match=r"1 weight missing.*classifier\.out_proj\.bias"):
        Scorer.load(serve(folder))
