"""/v1/rerank and /v1/score over HTTP. The scripted engine's score counts the letter x."""

import math

import httpx2 as httpx
import numpy as np
import pytest
from support import tiny
from support.contract import error_of, post

from mlxnode.messages.data import Embed, Embedded
from mlxnode.models.served import ServedModel

RERANK, SCORE = "/v1/rerank", "/v1/score"
DOCUMENTS = ["axx", "bxxxx", "c", "dxx"]  # 2, 4, 0 and 2 of the letter


def serve(id: str, type: str, folder, context: int = 512, **facts) -> ServedModel:
    return ServedModel(
        id=id,
        type=type,
        folder=folder,
        weights=folder,
        architecture="any",
        context_length=context,
        default_temperature=None,
        size_bytes=1,
        created=1_700_000_000,
        **{"dimensions": None} | facts,
    )


@pytest.fixture(scope="module")
def scoring_worker(start_worker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorers")
    models = [
        serve("cross", "rerank", tiny.make_cross_encoder(folder / "cross")),
        serve("judge", "rerank", tiny.make_judge(folder / "judge")),
        serve("vectors", "embedding", tiny.make_chat_model(folder / "vectors"), dimensions=8),
        serve("chat", "chat", folder / "vectors"),
    ]
    api = {"max_requests_per_minute": 60, "max_tokens_per_minute": 100_000}
    with start_worker(models, api, {"max_embedding_tokens": 5000}) as worker:
        worker.connect_engine()
        worker.engine.embed = lambda message: answer(worker, message)
        yield worker


@pytest.fixture
def worker(scoring_worker):
    scoring_worker.settle()
    return scoring_worker


def answer(worker, message: Embed) -> None:
    [x] = worker.engine.ids("x")
    counts = [[float(ids.count(x))] for ids in message.inputs]
    if message.model == "vectors":  # a direction for each count; the length is the length
        counts = [
            [len(ids) * math.cos(c / 4), len(ids) * math.sin(c / 4)]
            for (c,), ids in zip(counts, message.inputs, strict=True)
        ]
    matrix = np.array(counts, "<f4")
    worker.engine.send(Embedded(message.uid, matrix.shape[1], matrix.tobytes()))


def rerank(worker, path: str = RERANK, **options) -> httpx.Response:
    body = {"model": "cross", "query": "q", "documents": DOCUMENTS} | options
    return post(worker, path, {name: value for name, value in body.items() if value != ...})


def score(worker, **options) -> httpx.Response:
    return post(worker, SCORE, {"model": "cross"} | options)


# --- reranking ------------------------------------------------------------------------


@pytest.mark.parametrize("path", [RERANK, "/v2/rerank", "/rerank", "/v1/v1/rerank"])
def test_rerank_orders_by_score_then_by_index(worker, path):
    body = rerank(worker, path).json()
    found = [(result["index"], result["relevance_score"]) for result in body["results"]]
    assert found == [(1, 4.0), (0, 2.0), (3, 2.0), (2, 0.0)]
    texts = [result["document"]["text"] for result in body["results"]]
    assert texts == [DOCUMENTS[index] for index, _ in found]
    num_tokens = sum(len("q" + text) + 3 for text in DOCUMENTS)
    assert body["model"] == "cross" and body["id"].startswith("rerank-")
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] == num_tokens
    assert body["meta"]["tokens"]["input_tokens"] == num_tokens


def test_rerank_sends_pairs_with_the_place_of_the_document(worker):
    rerank(worker, query="who", documents=["me"])
    message = worker.engine.next(Embed)
    start, end = 0, tiny.EOS_ID
    expected = [start, *worker.engine.ids("who"), end, *worker.engine.ids("me"), end]
    assert message.inputs == [expected] and message.starts == [5]


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (3, 3), (99, 4), (None, 4)])
def test_rerank_answers_the_best(worker, top_n, count):
    results = rerank(worker, top_n=top_n).json()["results"]
    assert [result["index"] for result in results] == [1, 0, 3, 2][:count]


def test_rerank_leaves_the_documents_out_when_asked(worker):
    results = rerank(worker, return_documents=False).json()["results"]
    assert all(set(result) == {"index", "relevance_score"} for result in results)


def test_rerank_takes_documents_as_objects(worker):
    documents = [{"text": "ax"}, "xxx", {"text": "b", "title": "B"}]
    response = rerank(worker, documents=documents, rank_fields=["text"])
    texts = [result["document"] for result in response.json()["results"]]
    assert texts == [{"text": "xxx"}, {"text": "ax"}, {"text": "b"}]
    assert response.headers["x-mlxnode-ignored"] == "documents[2].title"


def test_rerank_understands_other_spellings(worker):
    response = rerank(worker, top_k=1, max_chunks_per_doc=10, priority=3, user="me")
    assert [result["index"] for result in response.json()["results"]] == [1]
    assert response.headers["x-mlxnode-ignored"] == "max_chunks_per_doc"


def test_rerank_cuts_what_is_too_long(worker):
    response = rerank(worker, query="q" * 30, documents=["y" * 600 + "x", "x"])
    assert [r["relevance_score"] for r in response.json()["results"]] == [1.0, 0.0]
    lengths = [len(ids) for ids in worker.engine.next(Embed).inputs]
    assert lengths == [512, 34]


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({"truncate_prompt_tokens": 20}, [20, 20]),
        ({"truncate_prompt_tokens": -1}, [63, 83]),
        ({"max_tokens_per_doc": 5}, [27, 28]),
        ({"max_tokens_per_doc": 5, "truncate_prompt_tokens": 21}, [21, 21]),
    ],
)
def test_rerank_cuts_as_the_request_says(worker, options, lengths):
    response = rerank(worker, query="q" * 20, documents=["é" * 20, "x" * 60], **options)
    assert response.status_code == 200
    assert [len(ids) for ids in worker.engine.next(Embed).inputs] == lengths
    shown = [result["document"]["text"] for result in response.json()["results"]]
    assert sorted(shown) == ["x" * 60, "é" * 20]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ...}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": ["a", {"text": ""}]}, "documents[1].text"),
        ({"documents": ["a", {"image": "b"}]}, "documents[1].text"),
        ({"documents": ["a", 5]}, "documents[1]"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"documents": ["a" * 400] * 20}, "documents"),
        ({"query": ""}, "query"),
        ({"query": ...}, "query"),
        ({"query": ["a"]}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"model": "chat"}, "model"),
        ({"model": ...}, "model"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"instruction": "be kind"}, "instruction"),
        ({"instruct": "be kind", "model": "vectors"}, "instruction"),
        ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
        ({"truncation": False, "documents": ["a", "b" * 600]}, "documents[1]"),
        (
            {"truncate": False, "documents": ["a", "b" * 600], "model": "vectors"},
            "documents[1]",
        ),
        ({"truncation": False, "query": "b" * 600, "model": "vectors"}, "query"),
    ],
)
def test_rerank_refuses_by_name(worker, options, param):
    response = rerank(worker, **options)
    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert worker.engine.received.empty()


def test_rerank_does_not_know_a_model(worker):
    response = rerank(worker, model="none")
    assert response.status_code == 404 and error_of(response)["code"] == "model_not_found"


def test_rerank_needs_a_key(worker):
    assert post(worker, RERANK, {}, authorization="Bearer no").status_code == 401


def test_rerank_reserves_and_settles_its_tokens(worker):
    rerank(worker, documents=["ab", "c"])
    assert worker.reserved.get(timeout=10).tokens == 11
    assert worker.settled.get(timeout=10).tokens == 11


def test_rerank_of_a_huge_query_takes_no_more_than_the_tokens_it_uses(worker):
    response = rerank(worker, query="q " * 200_000, documents=[str(n) for n in range(9)])
    assert response.status_code == 200
    assert {len(ids) for ids in worker.engine.next(Embed).inputs} == {512}
    response = rerank(worker, query="q " * 200_000, documents=["a"] * 2048)
    assert error_of(response)["code"] == "max_tokens_per_request"


# --- decoders and vectors -------------------------------------------------------------


def test_rerank_asks_a_decoder_with_its_prompt(worker):
    body = rerank(worker, model="judge", query="Who?", instruction="Be strict").json()
    assert [result["index"] for result in body["results"]] == [1, 0, 3, 2]
    message = worker.engine.next(Embed)
    text = worker.engine.text(message.inputs[1])
    assert "<Instruct>: Be strict\n<Query>: Who?\n<Document>: bxxxx<|im_end|>\n" in text
    assert message.starts == []


def test_rerank_by_an_embedding_model_is_the_cosine(worker):
    body = rerank(worker, model="vectors", query="xxxx").json()
    scores = {result["index"]: result["relevance_score"] for result in body["results"]}
    expected = [math.cos((4 - count) / 4) for count in (2, 4, 0, 2)]
    np.testing.assert_allclose([scores[index] for index in range(4)], expected, atol=1e-6)
    assert body["results"][0]["index"] == 1
    message = worker.engine.next(Embed)
    assert message.inputs == [worker.engine.ids(text) for text in ("xxxx", *DOCUMENTS)]
    assert body["usage"]["total_tokens"] == 4 + sum(map(len, DOCUMENTS))


def test_rerank_by_vectors_keeps_texts_apart_that_are_equal_when_cut(worker):
    documents = ["y" * 520 + "a", "y" * 520 + "b", "x"]
    results = rerank(worker, model="vectors", query="x", documents=documents).json()["results"]
    assert [result["index"] for result in results] == [2, 0, 1]
    assert len(worker.engine.next(Embed).inputs) == 4


# --- scores ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "scores"),
    [
        ("x", "x", [2.0]),
        ("x", ["x", "xx", "a"], [2.0, 3.0, 1.0]),
        (["x"], ["x", "xx", "a"], [2.0, 3.0, 1.0]),
        (["x", "a"], ["xx", "b"], [3.0, 0.0]),
    ],
)
@pytest.mark.parametrize(
    "names",
    [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("query", "data_2")],
)
def test_score_one_against_each_or_pair_by_pair(worker, first, second, scores, names):
    response = score(worker, **dict(zip(names, (first, second), strict=True)))
    body = response.json()
    assert body["object"] == "list" and body["model"] == "cross"
    assert [item["score"] for item in body["data"]] == scores
    assert [item["index"] for item in body["data"]] == list(range(len(scores)))
    assert all(item["object"] == "score" for item in body["data"])
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    assert "x-mlxnode-ignored" not in response.headers


def test_score_by_an_embedding_model_is_the_cosine(worker):
    texts = {"text_1": ["x", "x"], "text_2": ["x", "axx"]}
    data = score(worker, model="vectors", **texts).json()["data"]
    expected = [1.0, math.cos(1 / 4)]
    np.testing.assert_allclose([item["score"] for item in data], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"text_1": ["a", "b"], "text_2": ["c"]}, "text_2"),
        ({"text_1": ["a", "b"], "text_2": "c"}, "text_2"),
        ({"text_1": "a"}, "text_2"),
        ({"text_2": "a"}, "text_1"),
        ({"text_1": "a", "text_2": []}, "text_2"),
        ({"text_1": "", "text_2": "a"}, "text_1"),
        ({"queries": ["a", ""], "documents": ["b", "c"]}, "queries[1]"),
        ({"text_1": "a", "text_2": "b" * 600, "truncation": False}, "text_2"),
        ({"text_1": "a", "text_2": "b", "model": "chat"}, "model"),
    ],
)
def test_score_refuses_by_name(worker, options, param):
    response = score(worker, **options)
    assert response.status_code == 400 and error_of(response)["param"] == param
    assert worker.engine.received.empty()


def test_models_tell_their_type(worker):
    listed = httpx.get(f"{worker.url}/v1/models", headers=worker.headers).json()["data"]
    assert {model["id"]: model["type"] for model in listed} == {
        "cross": "rerank",
        "judge": "rerank",
        "vectors": "embedding",
        "chat": "chat",
    }


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions", "/v1/completions"])
def test_a_reranker_says_where_it_is_used(worker, path):
    body = {"model": "cross", "input": "a", "prompt": "a"}
    body |= {"messages": [{"role": "user", "content": "a"}]}
    error = error_of(post(worker, path, body))
    assert error["code"] == "model_not_supported"
    assert "use it at /v1/rerank and /v1/score" in error["message"]
