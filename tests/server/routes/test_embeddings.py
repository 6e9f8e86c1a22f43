"""Embeddings through the SDK. The scripted engine's vector is (length, token ids...)."""

import base64
import struct

import httpx2 as httpx
import openai
import pytest

from mlxnode.messages.data import Embed


def embed(worker, value, **options):
    return worker.client().embeddings.create(model="tiny-embedding", input=value, **options)


def vectors(answer) -> list[list[float]]:
    return [item.embedding for item in answer.data]


def expected(worker, text: str) -> list[float]:
    ids = worker.engine.ids(text)
    return [float(x) for x in ([len(ids), *ids] + [0] * 8)[:8]]


def test_embeddings_of_a_string(worker):
    answer = embed(worker, "hé")
    assert vectors(answer) == [expected(worker, "hé")]
    assert answer.object == "list" and answer.model == "tiny-embedding"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3


def test_embeddings_keep_the_order(worker):
    texts = [f"{'x' * (i % 7 + 1)}{i}" for i in range(300)]
    answer = embed(worker, texts)
    assert vectors(answer) == [expected(worker, text) for text in texts]
    assert [item.index for item in answer.data] == list(range(300))
    assert answer.usage.prompt_tokens == sum(len(text) for text in texts)


@pytest.mark.parametrize("value", [[4, 5, 6], [[4, 5, 6]]])
def test_embeddings_of_token_ids(worker, value):
    assert vectors(embed(worker, value)) == [[3.0, 4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
def test_embeddings_encoding(worker, encoding_format):
    body = {"model": "tiny-embedding", "input": "a", "encoding_format": encoding_format}
    response = httpx.post(f"{worker.url}/v1/embeddings", json=body, headers=worker.headers)
    vector = response.json()["data"][0]["embedding"]
    if encoding_format == "base64":
        vector = list(struct.unpack("<8f", base64.b64decode(vector)))
    assert vector == expected(worker, "a")


async def test_embeddings_async(worker):
    async with worker.async_client() as client:
        answer = await client.embeddings.create(model="tiny-embedding", input=["a", "b"])
    assert vectors(answer) == [expected(worker, "a"), expected(worker, "b")]


@pytest.mark.parametrize(("asked", "sent"), [(4, 4), (8, None), (None, None)])
def test_embeddings_dimensions(worker, asked, sent):
    answer = embed(worker, "a", **({} if asked is None else {"dimensions": asked}))
    assert worker.engine.next(Embed).dimensions == sent
    assert len(answer.data[0].embedding) == (asked or 8)


@pytest.mark.parametrize(
    ("value", "options", "param"),
    [
        ("", {}, "input"),
        (["a", ""], {}, "input[1]"),
        ([], {}, "input"),
        ([[]], {}, "input[0]"),
        ([[1], []], {}, "input[1]"),
        ("x" * 65, {}, "input"),
        (["a", "b", "x" * 65], {}, "input[2]"),
        ([[5] * 65], {}, "input[0]"),
        ([[5], [259]], {}, "input[1]"),
        (["a"] * 2049, {}, "input"),
        ("a", {"dimensions": 5}, "dimensions"),
        ("a", {"dimensions": 16}, "dimensions"),
        ("a", {"dimensions": 0}, "dimensions"),
        ("a", {"encoding_format": "int8"}, "encoding_format"),
        ("a", {"model": "tiny-chat"}, "model"),
    ],
)
def test_embeddings_refuse(worker, value, options, param):
    request = {"model": "tiny-embedding", "input": value} | options
    with pytest.raises(openai.BadRequestError) as caught:
        worker.client().embeddings.create(**request)
    assert caught.value.param == param
    assert worker.engine.received.empty()


def test_embeddings_limit_counts_tokens(worker):
    embed(worker, ["ab", "c"])
    assert worker.reserved.get(timeout=10).tokens == 3
    assert worker.settled.get(timeout=10).tokens == 3
