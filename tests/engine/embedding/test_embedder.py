import dataclasses
import json
import random
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxnode.engine.embedding.embedder import Embedder
from mlxnode.engine.embedding.queue import EmbeddingQueue
from mlxnode.errors import ModelError
from mlxnode.kernels.backend import OPS
from mlxnode.models.sentence.config import read_sentence_config
from mlxnode.models.sentence.tokenizer import SentenceTokenizer
from mlxnode.models.served import ServedModel

FIXTURES = Path(__file__).parents[2] / "fixtures" / "embeddings"
ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "modernbert", "qwen3")


def serve(folder: Path, dimensions: int | None = None) -> ServedModel:
    config = json.loads((folder / "config.json").read_text())
    return ServedModel(
        id="model",
        type="embedding",
        folder=folder,
        weights=folder,
        architecture=config["model_type"],
        context_length=read_sentence_config(folder).max_length,
        dimensions=dimensions,
        default_temperature=None,
        size_bytes=0,
        created=0,
    )


def load_texts(name: str) -> list[list[int]]:
    expected = np.load(FIXTURES / name / "expected.npz")
    ends = np.cumsum(expected["lengths"])[:-1]
    return [ids.tolist() for ids in np.split(expected["ids"], ends)]


def embed(embedder: Embedder, inputs, dimensions: int | None = None) -> np.ndarray:
    return np.stack(embedder.embed(inputs, [dimensions] * len(inputs)))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


# --- the demo model against sentence-transformers -----------------------------------


@pytest.fixture(scope="session")
def demo(demo_embedding) -> tuple[Embedder, list[list[int]], np.ndarray]:
    """The model, the token ids of the fixture's texts, and their reference vectors."""
    tokenizer = SentenceTokenizer(demo_embedding, read_sentence_config(demo_embedding))
    texts = json.loads((FIXTURES / "minilm.json").read_text())
    embedder = Embedder.load(serve(demo_embedding))
    return embedder, list(tokenizer.encode(texts)), np.load(FIXTURES / "minilm.npy")


def test_demo_alone_equals_sentence_transformers(demo):
    embedder, inputs, expected = demo
    for ids, reference in zip(inputs, expected, strict=True):
        (vector,) = embed(embedder, [ids])
        assert vector.dtype == np.float32
        assert cosines(vector, reference) >= 0.99999
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)


def test_demo_short_beside_long_equals_sentence_transformers(demo):
    embedder, inputs, expected = demo
    longest = max(range(len(inputs)), key=lambda i: len(inputs[i]))
    rows = [0, longest, 6]
    vectors = embed(embedder, [inputs[i] for i in rows])
    assert min(cosines(vectors, expected[rows])) >= 0.99999


def test_demo_through_the_queue_equals_sentence_transformers(demo):
    """Several requests, shuffled, merged into whatever batches the queue makes."""
    embedder, inputs, expected = demo
    order = list(range(len(inputs)))
    random.Random(0).shuffle(order)
    requests = {"a": order[:3], "b": order[3:4], "c": order[4:]}
    queue = EmbeddingQueue()
    for key, rows in requests.items():
        queue.add(key, [inputs[row] for row in rows])
    finished = []
    while batch := queue.next_batch(256):
        vectors = embedder.embed([i.tokens for i in batch], [i.dimensions for i in batch])
        finished += queue.complete(batch, vectors)
    assert {request.key for request in finished} == {"a", "b", "c"}
    for request in finished:
        reference = expected[requests[request.key]]
        assert min(cosines(np.stack(request.vectors), reference)) >= 0.99999


def test_demo_similar_questions_are_near(demo):
    embedder, _, expected = demo
    vectors = expected[[13, 14, 15]]
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    assert embedder.dimensions == 384


# --- every architecture -------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_embedder_batched_equals_single(name):
    embedder = Embedder.load(serve(FIXTURES / name))
    texts = load_texts(name)
    together = embed(embedder, texts)
    assert np.isfinite(together).all()
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(embed(embedder, [text])[0], vector, atol=1e-5)


def test_embedder_applies_dense_and_normalize_as_sentence_transformers():
    expected = np.load(FIXTURES / "bert" / "expected.npz")["vectors"]
    embedder = Embedder.load(serve(FIXTURES / "bert"))
    vectors = embed(embedder, load_texts("bert"))
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_embedder_cuts_each_vector_to_its_dimensions():
    embedder = Embedder.load(serve(FIXTURES / "modernbert"))
    texts = load_texts("modernbert")
    full = embed(embedder, texts)
    sizes = [1, 8, None, 32, 31, 2]
    for vector, whole, size in zip(embedder.embed(texts, sizes), full, sizes, strict=True):
        cut = whole[:size]
        np.testing.assert_allclose(vector, cut / np.linalg.norm(cut), atol=1e-5)


def test_embedder_serves_the_configured_dimensions():
    texts = load_texts("bert")
    full = embed(Embedder.load(serve(FIXTURES / "bert")), texts)
    embedder = Embedder.load(serve(FIXTURES / "bert", dimensions=8))
    assert embedder.dimensions == 8
    np.testing.assert_allclose(embed(embedder, texts), cut_to(full, 8), atol=1e-5)
    np.testing.assert_allclose(embed(embedder, texts, 16), full, atol=1e-5)


def cut_to(vectors: np.ndarray, size: int) -> np.ndarray:
    cut = vectors[:, :size]
    return cut / np.linalg.norm(cut, axis=-1, keepdims=True)


def test_embedder_leaves_vectors_as_they_are_without_normalize():
    normalized = Embedder.load(serve(FIXTURES / "roberta"))
    config = dataclasses.replace(
        read_sentence_config(FIXTURES / "roberta"), pooling="last", normalize=False
    )
    raw = Embedder(normalized._encoder, config, [], 32)
    expected = np.load(FIXTURES / "roberta" / "expected.npz")
    last = expected["hidden"][np.cumsum(expected["lengths"]) - 1]
    np.testing.assert_allclose(embed(raw, load_texts("roberta")), last, atol=3e-5)


def test_embedder_warms_the_kernels_for_the_dtype_of_its_hidden_states():
    asked = []
    kernels = OPS._replace(warm=lambda **dtypes: asked.append(dtypes))
    embedder = Embedder.load(serve(FIXTURES / "bert"), kernels)
    hidden = embedder._encoder(mx.array([[2, 5]]), mx.array([2]))
    assert asked == [{"pooling": [hidden.dtype]}]


def test_embedder_pads_the_batch_to_its_longest_text():
    embedder = Embedder.load(serve(FIXTURES / "qwen3"))
    shapes = []
    encoder = embedder._encoder

    def record(ids: mx.array, lengths: mx.array) -> mx.array:
        shapes.append(ids.shape)
        return encoder(ids, lengths)

    embedder._encoder = record
    embed(embedder, [[5] * 3, [5] * 17])
    embed(embedder, [[5]])
    assert shapes == [(2, 17), (1, 1)]


def test_load_refuses_more_dimensions_than_the_model_has():
    with pytest.raises(ModelError, match="dimensions must be at most 16, got 17"):
        Embedder.load(serve(FIXTURES / "bert", dimensions=17))
