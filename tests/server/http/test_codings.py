"""Bodies with a Content-Encoding: what is served, and what hostile ones cost."""

import asyncio
import gzip
import itertools
import json
import tracemalloc
import zlib

import httpx2 as httpx
import pytest
from support.contract import CHAT, CHATS, error_of, post
from support.cpu_time import cpu_time

from mlxnode.server.errors import InvalidRequest, TooLarge, UnknownCoding
from mlxnode.server.http.codings import codings_of, decode_body

BODY = json.dumps(CHAT).encode()
LIMIT = 1_000_000  # bytes, of the worker


def raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(body) + deflater.flush()


def decode(body: bytes, *headers: str, limit: int = LIMIT) -> bytes:
    return asyncio.run(decode_body(body, codings_of(list(headers)), limit))


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:9]) + gzip.compress(b"") + gzip.compress(BODY[9:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY))),
        ("deflate,gzip", gzip.compress(zlib.compress(BODY))),
        ("identity", BODY),
        ("", BODY),
        ("identity, gzip,", gzip.compress(BODY)),
    ],
    ids=itertools.count(),
)
def test_encoded_bodies_are_served(worker, coding, body):
    response = post(worker, CHATS, body, **{"content-encoding": coding})
    assert response.json()["choices"][0]["message"]["content"] == "Hello!"


def test_codings_of_two_headers(worker):
    headers = [*worker.headers.items(), ("content-encoding", "deflate")]
    headers += [("content-encoding", "gzip"), ("content-type", "application/json")]
    content = gzip.compress(zlib.compress(BODY))
    assert httpx.post(worker.url + CHATS, content=content, headers=headers).status_code == 200


def test_encoded_body_in_chunks(worker):
    def pieces():
        for byte in gzip.compress(BODY):
            yield bytes([byte])

    headers = worker.headers | {"content-encoding": "gzip"}
    response = httpx.post(worker.url + CHATS, content=pieces(), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br", "chunked", "\xff"])
def test_other_codings_are_refused_by_name(worker, coding):
    response = post(worker, CHATS, b"x", **{"content-encoding": coding.encode("latin-1")})
    error = error_of(response)
    assert (response.status_code, error["code"]) == (415, "unsupported_content_encoding")
    assert response.headers["accept-encoding"] == "gzip, deflate"
    assert "gzip, deflate" in error["message"]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", BODY),
        ("gzip", gzip.compress(BODY)[:-1]),
        ("gzip", gzip.compress(BODY)[:20]),
        ("gzip", gzip.compress(BODY)[:-8] + b"\0" * 8),
        ("gzip", gzip.compress(BODY) + b"trailing"),
        ("gzip", gzip.compress(BODY) + gzip.compress(BODY)[:9]),
        ("gzip", zlib.compress(BODY)),
        ("deflate", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)[:-1]),
        ("deflate", BODY),
        ("gzip, deflate", zlib.compress(b"")),
        ("deflate, gzip", gzip.compress(b"")),
        ("gzip, gzip, gzip", b"x"),
    ],
    ids=itertools.count(),
)
def test_damaged_bodies_are_refused(worker, coding, body):
    response = post(worker, CHATS, body, **{"content-encoding": coding})
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_content_encoding"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_body_that_is_too_large_when_it_is_inflated(worker, pack):
    coding = "gzip" if pack is gzip.compress else "deflate"
    for size in (LIMIT + 1, 50 * LIMIT):
        body = pack(b" " * size)
        assert len(body) < LIMIT
        response = post(worker, CHATS, body, **{"content-encoding": coding})
        assert response.status_code == 413
        assert error_of(response)["code"] == "request_too_large"
    padded = pack(BODY + b" " * (LIMIT - len(BODY)))
    assert post(worker, CHATS, padded, **{"content-encoding": coding}).status_code == 200


def test_deep_nesting_within_a_small_body(worker):
    body = gzip.compress(b'{"model": ' + b"[" * 400_000 + b"]" * 400_000 + b"}")
    response = post(worker, CHATS, body, **{"content-encoding": "gzip"})
    assert response.status_code == 400 and "nested too deeply" in error_of(response)["message"]


def test_wrong_key_costs_no_inflation(worker):
    headers = {"content-encoding": "br", "x-api-key": "sk-wrong"}
    assert httpx.post(worker.url + CHATS, content=b"x", headers=headers).status_code == 401


def test_too_large_body_as_sent_is_told_so(worker):
    body = b"x" * (LIMIT + 1)
    response = post(worker, CHATS, body, **{"content-encoding": "gzip"})
    assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")


# --- bounds -------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_bomb_costs_no_more_memory_than_a_body(layers):
    bomb, limit = b"\0" * 100_000_000, 1_000_000
    for _ in range(layers):
        bomb = zlib.compress(bomb, 9)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decode(bomb, ", ".join(["deflate"] * layers), limit=limit)
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
    finally:
        tracemalloc.stop()


def test_many_members_take_linear_time():
    empty = gzip.compress(b"")
    seconds = []
    for count in (4_000, 40_000):
        with cpu_time() as spent:
            assert decode(empty * count, "gzip") == b""
        seconds.append(spent.seconds)
    assert seconds[1] < 0.1 + 30 * seconds[0]


def test_members_share_the_bound():
    half = gzip.compress(b"x" * 600)
    assert decode(half, "gzip", limit=1000) == b"x" * 600
    with pytest.raises(TooLarge):
        decode(half * 2, "gzip", limit=1000)
    assert decode(gzip.compress(b"x" * 1000), "gzip", limit=1000) == b"x" * 1000


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_any_length_is_undone(size):
    body = bytes(number * 7919 % 251 for number in range(size))
    for pack, coding in ((gzip.compress, "gzip"), (zlib.compress, "deflate")):
        assert decode(pack(body, 0), coding) == body
        assert decode(pack(body, 9), coding) == body
    assert decode(raw_deflate(body), "deflate") == body


def test_names_are_checked_before_anything_is_inflated():
    with pytest.raises(UnknownCoding):
        decode(b"no gzip", "br", "gzip")
    with pytest.raises(InvalidRequest, match="3 content codings"):
        decode(b"no gzip", "gzip", "gzip, gzip")
