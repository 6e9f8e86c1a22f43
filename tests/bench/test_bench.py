"""Servers are measured with the same requests, in turn."""

import asyncio
import io
import json

import pytest
from rich.console import Console
from support.fake_api import DONE, FakeApi, chunk, usage

from mlxnode.bench.figures import Figure, medians, ratio
from mlxnode.bench.loads import Load
from mlxnode.bench.machine import shares
from mlxnode.bench.report import document, plot, tables
from mlxnode.bench.requests import Answer, stream_answer
from mlxnode.bench.rounds import measure
from mlxnode.bench.servers import BenchError, Server

CHAT = Load("chat", 4, 10)


def answers(body):
    """As many tokens as are asked for, two of them in one event."""
    count = body["max_tokens"]
    return iter([chunk("ab"), *[chunk("c")] * (count - 2), usage(count), DONE])


@pytest.fixture
def api():
    with FakeApi(answers) as server:
        yield server


def server_of(api: FakeApi, name: str = "a") -> Server:
    return Server(name, api.url, "fake")


def test_rounds_send_every_server_the_same_and_nothing_twice(api):
    with FakeApi(answers) as other:
        servers = [server_of(api), server_of(other, "b")]
        said: list[str] = []
        figures = measure(servers, CHAT, [1, 3], 2, said.append)
    ours, theirs = (
        sorted(json.dumps(body, sort_keys=True) for body in one.bodies) for one in (api, other)
    )
    assert ours == theirs and len(ours) == 2 + 2 * (1 + 3)
    measured = [body for body in api.bodies if body["max_tokens"] == 4]
    prompts = [body["messages"][0]["content"] for body in measured]
    assert len(set(prompts)) == len(prompts) == 9
    assert all(body["ignore_eos"] is True for body in measured)
    keys = {(f.server, f.num_clients, f.name) for f in figures}
    names = ("tokens/s", "TTFT", "TPOT", "ITL p95")
    assert keys == {(s, c, n) for s in "ab" for c in (1, 3) for n in names}
    first = [line for line in said if "1 at a time" in line]
    assert ["a," in line for line in first] == [True, False, False, True]


def test_server_that_does_not_know_ignore_eos_is_asked_without(api):
    api.unknown = "ignore_eos"
    measure([server_of(api)], CHAT, [1], 1, lambda _: None)
    assert ["ignore_eos" in body for body in api.bodies] == [True, False, False]


def test_tokens_are_those_that_the_server_counts(api):
    async def ask() -> Answer:
        async with server_of(api).make_client() as client:
            return await stream_answer(client, server_of(api), "hi", 4, {})

    answer = asyncio.run(ask())
    assert answer.num_tokens == 4 and len(answer.arrivals) == 3


def test_time_for_a_token_does_not_depend_on_chunks():
    assert Answer(5, 0.1, [1.0, 1.0, 3.0]).tpot == 0.5
    assert Answer(1, 0.1, [1.0]).tpot is None


def test_embeddings_are_measured_in_texts(api):
    figures = measure([server_of(api)], Load("embedding", 4, 10), [2], 1, lambda _: None)
    assert [(f.name, f.num_clients) for f in figures] == [("texts/s", 2)]
    assert {len(body["input"]) for body in api.bodies} == {8} and len(api.bodies) == 4 + 8


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, {"message": "Incorrect API key"}, "a: Incorrect API key"),
        (503, None, "a: HTTP status 503"),
    ],
)
def test_refusal_of_a_server_ends_the_measurement(api, status, error, text):
    api.refusal = (status, {"error": error})
    with pytest.raises(BenchError, match=text):
        measure([server_of(api)], CHAT, [1], 1, lambda _: None)


FIGURES = [
    Figure("mlxnode", "chat", 1, "tokens/s", 100.0),
    Figure("mlxnode", "chat", 1, "TPOT", 10.0),
    Figure("other", "chat", 1, "tokens/s", 50.0),
    Figure("mlxnode", "embedding", 4, "texts/s", 7.0),
]


def test_medians_and_ratios():
    values = [Figure("a", "chat", 1, "TTFT", value) for value in (3.0, 1.0, 2.0)]
    assert medians(values) == [Figure("a", "chat", 1, "TTFT", 2.0)]
    assert ratio(FIGURES[0], FIGURES, "other") == 2.0
    assert ratio(FIGURES[1], FIGURES, "other") is None


def test_share_of_the_bandwidth_is_weights_each_token():
    assert shares(FIGURES, 10**9, 200e9) == {"mlxnode": pytest.approx(0.5)}


def test_report_has_every_figure():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(tables(FIGURES, {"mlxnode": 0.5}, "mlxnode"))
    text = console.export_text()
    assert "2.00" in text and "50%" in text and "texts/s, more is better" in text
    rows = document(FIGURES, {"chat": {"mlxnode": "m"}}, {"date": "today"})["figures"]
    assert rows[1] == {
        "server": "mlxnode",
        "kind": "chat",
        "num_clients": 1,
        "name": "TPOT",
        "value": 10.0,
        "unit": "ms",
        "is_better": "less",
    }


def test_plot_is_an_svg(tmp_path):
    pytest.importorskip("matplotlib")
    plot(FIGURES, tmp_path / "bench.svg")
    assert "<svg" in (tmp_path / "bench.svg").read_text()
    with pytest.raises(BenchError, match="--plot"):
        plot(FIGURES, tmp_path / "no" / "bench.svg")
