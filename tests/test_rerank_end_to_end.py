"""The whole node with rerankers alone: from HTTP through the engine and back."""

import httpx2 as httpx
import numpy as np
import pytest
from support import tiny
from support.node_process import API_KEY, NodeProcess

from mlxnode.config.tables import EngineConfig, ModelConfig
from mlxnode.engine.embedding.embedder import Embedder
from mlxnode.engine.embedding.queue import EmbeddingQueue
from mlxnode.engine.embedding.scoring.scorer import Scorer
from mlxnode.engine.fit.served import needs_of_served
from mlxnode.models.describe import describe
from mlxnode.models.files import ModelFiles
from mlxnode.models.rerank.config import read_reranker_config
from mlxnode.models.rerank.tokenizer import Texts, load_pair_tokenizer
from mlxnode.models.sentence.config import read_sentence_config
from mlxnode.models.sentence.tokenizer import SentenceTokenizer
from mlxnode.models.served import ServedModel

pytestmark = pytest.mark.slow

QUERY = "Where is the library?"
DOCUMENTS = [
    "It is behind the station.",
    "x",
    "Libraries lend books, and often tools, too.",
    "東京の図書館",
    "x",
]
TYPES = {"cross": "rerank", "judge": "rerank", "vectors": "embedding"}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> dict[str, ServedModel]:
    folder = tmp_path_factory.mktemp("rerankers")
    folders = {
        "cross": tiny.make_cross_encoder(folder / "cross"),
        "judge": tiny.make_judge(folder / "judge"),
        "vectors": tiny.make_embedding_model(folder / "vectors"),
    }
    return {
        id: describe(id, ModelConfig(path=str(path), type=TYPES[id]), ModelFiles(path, path))
        for id, path in folders.items()
    }


@pytest.fixture(scope="module")
def node(served, tmp_path_factory):
    tables = [
        f'[api.models.{id}]\npath = "{model.folder}"\ntype = "{model.type}"'
        for id, model in served.items()
    ]
    head = f'[api]\naddress = "127.0.0.1:0"\napi_key = "{API_KEY}"'
    config = "\n".join([head, *tables, "[server]\nworkers = 1"])
    with NodeProcess(tmp_path_factory.mktemp("node"), config) as process:
        process.wait_ready()
        yield process


def post(node: NodeProcess, path: str, **body) -> dict:
    headers = {"authorization": f"Bearer {API_KEY}"}
    response = httpx.post(node.url + path, json=body, headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def expected_scores(model: ServedModel) -> np.ndarray:
    """Each pair alone, in this process."""
    if model.type == "embedding":
        tokenizer = SentenceTokenizer(model.folder, read_sentence_config(model.folder))
        texts = tokenizer.encode([QUERY, *DOCUMENTS])
        vectors = [Embedder.load(model).embed([ids], [None])[0] for ids in texts]
        vectors = [vector / np.linalg.norm(vector) for vector in vectors]
        return np.array([vectors[0] @ vector for vector in vectors[1:]])
    config = read_reranker_config(model.folder)
    tokenizer = load_pair_tokenizer(model.folder, config)
    pairs = [Texts(QUERY, document) for document in DOCUMENTS]
    encoded = tokenizer.encode(pairs, config.max_length, None)
    scorer = Scorer.load(model)
    scores = []
    for pair in encoded:
        queue = EmbeddingQueue()
        queue.add("one", [pair.ids], None, [] if pair.start is None else [pair.start])
        scores.append(scorer.compute(queue.next_batch(1))[0][0])
    return np.array(scores)


@pytest.mark.parametrize("id", TYPES)
def test_rerank_and_score_equal_each_pair_alone(node, served, id):
    expected = expected_scores(served[id])
    assert np.ptp(expected) > 1e-3 and abs(expected[1] - expected[4]) < 1e-6
    body = post(node, "/v1/rerank", model=id, query=QUERY, documents=DOCUMENTS)
    found = {result["index"]: result["relevance_score"] for result in body["results"]}
    np.testing.assert_allclose([found[i] for i in range(5)], expected, atol=2e-5)
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == sorted(scores, reverse=True)
    order = [result["index"] for result in body["results"]]
    assert order.index(1) < order.index(4)
    data = post(node, "/v1/score", model=id, text_1=QUERY, text_2=DOCUMENTS)["data"]
    np.testing.assert_allclose([item["score"] for item in data], expected, atol=2e-5)


def test_a_node_of_rerankers_says_what_to_try(node):
    log = "".join(node.log)
    assert "cross (rerank, 512 tokens)" in log and "/v1/rerank" in log


@pytest.mark.parametrize("id", ["cross", "judge"])
def test_the_memory_that_a_reranker_needs_is_known(served, id):
    needs = needs_of_served(served[id], EngineConfig())
    weights = served[id].size_bytes
    assert 0.5 * weights < needs.weights < 1.1 * weights
    assert all(point.prefill > 0 for point in needs.activations)
