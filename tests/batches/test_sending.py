"""Lines as requests over a Unix-domain socket: what is an answer, and what is tried again."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import pytest

from mlxnode.batches import sending
from mlxnode.batches.reading import parse_line
from mlxnode.batches.sending import LineSender, error_line

URL = "/v1/completions"
Answers = list[tuple[int, dict[str, str], object] | None]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sending, "MAX_PAUSE", 0.005)


async def ask(answers: Answers, body: object = None) -> tuple[sending.Outcome, list[bytes]]:
    """The outcome of a line, and the requests; None: the connection ends without an answer."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            heads.append(head + await reader.readexactly(size))
            answer = answers.pop(0)
            if answer is None:
                break
            status, headers, value = answer
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            lines = [f"HTTP/1.1 {status} X", f"content-length: {len(data)}"]
            lines += [f"{name}: {text}" for name, text in headers.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        writer.close()

    folder = Path(tempfile.mkdtemp(prefix="mlxnode-"))  # its path is short
    server = await asyncio.start_unix_server(serve, folder / "s")
    sender = LineSender(folder / "s", 4)
    try:
        line = {"custom_id": "c", "method": "POST", "url": URL, "body": body or {"model": "m"}}
        request = parse_line(json.dumps(line).encode(), URL)
        async with asyncio.timeout(20):
            return await sender.answer(request, URL, "key-1"), heads
    finally:
        await sender.close()
        server.close()
        shutil.rmtree(folder)


async def test_answer_is_a_line_with_the_status_and_the_body():
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    usage |= {"prompt_tokens_details": {"cached_tokens": 5}}
    body = {"text": "a\nb", "usage": usage}
    outcome, [request] = await ask([(200, {"x-request-id": "req_1"}, body)])
    assert b"x-mlxnode-key: key-1" in request and request.endswith(b'{"model": "m"}')
    assert b"\n" not in outcome.data and not outcome.has_failed
    line = json.loads(outcome.data)
    assert line["custom_id"] == "c" and line["error"] is None
    assert line["response"] == {"status_code": 200, "request_id": "req_1", "body": body}
    assert outcome.tokens == (7, 5, 2, 0)


async def test_answer_of_responses_has_its_tokens_too():
    details = {"reasoning_tokens": 3}
    usage = {"input_tokens": 4, "output_tokens": 6, "output_tokens_details": details}
    outcome, _ = await ask([(200, {}, {"usage": usage})])
    assert outcome.tokens == (4, 0, 6, 3)


async def test_answer_with_ends_of_lines_becomes_one_line():
    outcome, _ = await ask([(200, {}, b'{\n "a": 1\r\n}')])
    assert b"\n" not in outcome.data and b"\r" not in outcome.data
    assert json.loads(outcome.data)["response"]["body"] == {"a": 1}


async def test_no_character_of_an_answer_ends_its_line():
    text = "a\x85b\u2028c\u2029d\x0b\x0c\x1c\x1d\x1e\\u0085 \\\u2028"
    value = {"text": text}
    outcome, _ = await ask([(200, {}, json.dumps(value, ensure_ascii=False).encode())])
    [line] = outcome.data.decode().splitlines()
    assert json.loads(line)["response"]["body"] == value


async def test_error_of_the_request_is_its_answer():
    error = {"error": {"message": "no", "code": "model_not_found"}}
    outcome, requests = await ask([(404, {}, error)])
    assert outcome.has_failed and len(requests) == 1
    assert json.loads(outcome.data)["response"]["body"] == error


async def test_what_is_not_the_fault_of_the_request_is_tried_again():
    later = {"retry-after": "2"}
    outcome, requests = await ask(
        [(503, later, {}), None, (429, {}, {}), None, (503, {}, {}), (200, {}, {"a": 1})]
    )
    assert not outcome.has_failed and len(requests) == 6
    assert len(set(requests)) == 1  # byte for byte: the engine knows what it died of


async def test_what_is_refused_for_good_is_not_tried_again():
    never = {"x-should-retry": "false"}
    for status in (500, 503):
        outcome, requests = await ask([(status, never, {"error": {}})])
        assert outcome.has_failed and len(requests) == 1


async def test_failures_of_the_server_are_tried_a_few_times():
    outcome, requests = await ask([(500, {}, {"error": {}})] * sending.MAX_FAILURES)
    assert outcome.has_failed and len(requests) == sending.MAX_FAILURES


async def test_stream_is_refused_without_a_request():
    outcome, requests = await ask([], {"model": "m", "stream": True})
    assert outcome.has_failed and not requests
    response = json.loads(outcome.data)["response"]
    assert (response["status_code"], response["body"]["error"]["param"]) == (400, "stream")


def test_error_line_has_no_response():
    line = json.loads(error_line("c", "batch_expired", "too late").data)
    assert line["error"] == {"code": "batch_expired", "message": "too late"}
    assert line["response"] is None and line["custom_id"] == "c"
