"""The request log: its lines, and the thread that writes them."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from support.bare_requests import WAIT, chat, post

from mlxnode.messages.control import Drain
from mlxnode.messages.data import Generate
from mlxnode.server.http import request_log
from mlxnode.server.http.request_log import Entry, RequestLog

ENTRY = Entry(
    time="2026-02-02T12:00:00.000Z",
    id="req_1",
    key="alice",
    method="POST",
    path="/v1/responses/<response_id:str>",
    model="org/tiny",
    status=200,
    outcome="done",
    error=None,
    prompt_tokens=10,
    cached_tokens=4,
    completion_tokens=3,
    asked_s=0.01,
    first_token_s=0.2,
    total_s=1.5,
)
HOSTILE = [
    'a "b" \\ c',
    "a\nb\r\nfake=1",
    "\x00\x1b[31m\x7f\u2028\ud7ff\U0001f600",
    "a=b outcome=done",
    "",
    "é" * 128,
    "\ud800",
]


def wait_until(condition) -> None:
    paused = threading.Event()
    for _ in range(2000):
        if condition():
            return
        paused.wait(0.01)
    raise AssertionError("it did not come to that")


def written(form: str, path: Path, *entries: Entry) -> list[str]:
    log = RequestLog(form, str(path)).open()
    for entry in entries:
        log.write(entry)
    log.close(10)
    return path.read_text().splitlines()


def test_request_log_as_text_has_each_known_value(tmp_path):
    assert written("text", tmp_path / "log", ENTRY) == [
        "time=2026-02-02T12:00:00.000Z id=req_1 key=alice method=POST "
        "path=/v1/responses/<response_id:str> model=org/tiny status=200 outcome=done "
        "prompt_tokens=10 cached_tokens=4 completion_tokens=3 asked_s=0.01 first_token_s=0.2 "
        "total_s=1.5"
    ]


def test_request_log_as_text_marks_lines_of_batches(tmp_path):
    entry = msgspec.structs.replace(ENTRY, background=True)
    assert written("text", tmp_path / "log", entry)[0].endswith(" background=true")


def test_request_log_as_json_has_all_values(tmp_path):
    [line] = written("json", tmp_path / "log", ENTRY)
    assert Entry(**json.loads(line)) == ENTRY


@pytest.mark.parametrize("form", ["text", "json"])
def test_request_log_keeps_hostile_names_in_one_line_and_field(tmp_path, form):
    entries = [replace(ENTRY, id=text, model=text) for text in HOSTILE]
    lines = written(form, tmp_path / "log", *entries)
    assert len(lines) == len(HOSTILE)
    for line, text in zip(lines, HOSTILE, strict=True):
        if form == "json":
            assert json.loads(line)["id"] == json.loads(line)["model"] == text
        else:
            assert line.isascii() and line.isprintable()
            quoted = json.dumps(text)
            assert f" id={quoted} key=alice " in line and f" model={quoted} status=" in line


def test_request_log_is_of_its_owner_alone_and_goes_on_at_the_end(tmp_path):
    path = tmp_path / "log"
    assert len(written("json", path, ENTRY)) == 1
    assert len(written("text", path, ENTRY, ENTRY)) == 3
    assert path.stat().st_mode & 0o777 == 0o600


def test_request_log_begins_a_new_file_when_the_old_one_was_moved(tmp_path):
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = RequestLog("text", str(path)).open()
    log.write(ENTRY)
    wait_until(lambda: path.exists() and path.read_text())
    path.rename(old)
    log.write(replace(ENTRY, id="req_2"))
    log.close(10)
    assert "req_1" in old.read_text() and "req_2" not in old.read_text()
    assert "req_2" in path.read_text() and "req_1" not in path.read_text()


def test_request_log_without_its_folder_warns_at_once_and_at_the_end(tmp_path, caplog):
    path = tmp_path / "folder" / "log"
    log = RequestLog("text", str(path)).open()
    for _ in range(5):
        log.write(ENTRY)
    wait_until(lambda: "are lost" in caplog.text)
    wait_until(lambda: log._lines.empty())
    path.parent.mkdir()
    log.write(replace(ENTRY, id="req_2"))
    log.close(10)
    assert path.read_text().count("\n") == 1 and "req_2" in path.read_text()
    texts = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "cannot be written" in texts[0] and "1 lines of the request log are lost" in texts[1]
    assert len(texts) == 3 and "5 lines of the request log are lost so far: " in texts[2]


def test_request_log_does_not_wait_for_a_reader_of_a_fifo(tmp_path, caplog):
    path = tmp_path / "log"
    os.mkfifo(path)
    log = RequestLog("json", str(path)).open()
    log.write(ENTRY)
    wait_until(lambda: "1 lines of the request log are lost" in caplog.text)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        log.write(replace(ENTRY, id="req_2"))
        log.close(10)
        assert json.loads(os.read(reader, 65536))["id"] == "req_2"
    finally:
        os.close(reader)


def test_request_log_goes_on_in_a_new_line_after_one_that_was_cut(tmp_path, monkeypatch):
    path, real = tmp_path / "log", os.write
    rooms = iter([20])
    monkeypatch.setattr(
        request_log.os, "write", lambda fd, data: real(fd, data[: next(rooms, None)])
    )
    lines = written("json", path, ENTRY, replace(ENTRY, id="req_2"))
    assert len(lines) == 2 and len(lines[0]) == 20
    assert json.loads(lines[1])["id"] == "req_2"


FULL_PIPE = f"""
import sys
from mlxnode.server.http.request_log import Entry, RequestLog
log = RequestLog("json", None).open()
for _ in range(50_000):
    log.write({ENTRY!r})
print("all queued", file=sys.stderr, flush=True)
log.close(60)
print("ended", file=sys.stderr, flush=True)
"""


@pytest.mark.slow
def test_request_log_never_waits_for_the_reader_of_a_pipe(tmp_path):
    """Nobody reads its standard output: 64 KB go in, the queue fills, and lines are lost."""
    process = subprocess.Popen(
        [sys.executable, "-c", FULL_PIPE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        before = iter(process.stderr.readline, "all queued\n")
        assert all("are lost so far" in line for line in before)  # to its end at the latest
        lines = process.stdout.read().split("\n")
        assert len(lines) > 10_000 and all(json.loads(line) for line in lines[:-1])
        lost = 50_001 - len(lines)
        log = process.stderr.read().splitlines()
        assert log[-1] == "ended" and f"{lost} lines of the request log are lost" in log[-2]
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_logs_of_several_workers_append_whole_lines_to_one_file(tmp_path):
    """Each worker has a log of its own; lines are appended by single writes."""
    path = tmp_path / "log"
    logs = [RequestLog("json", str(path)).open() for _ in range(4)]
    for i in range(500):
        for log in logs:
            log.write(replace(ENTRY, id=f"req_{i}"))
    for log in logs:
        log.close(30)
    lines = path.read_text().splitlines()
    assert len(lines) == 2000
    ids = [json.loads(line)["id"] for line in lines]
    assert all(ids.count(f"req_{i}") == 4 for i in range(0, 500, 50))


def test_drain_that_cuts_writes_one_line_for_each_request(
    start_worker, served_models, tmp_path
):
    path = tmp_path / "requests.jsonl"
    server = {"request_log": "json", "request_log_file": str(path)}
    with start_worker(served_models, {"require_auth": False}, server) as worker:
        worker.connect_engine()
        engine = worker.engine
        engine.on_generate = lambda message: engine.update(message.uid, "abc")
        with (
            chat(worker, stream=True) as stream,
            chat(worker) as whole,
            post(worker, "/v1/completions", model="org/tiny-text", prompt="x") as other,
        ):
            while b"abc" not in stream.recv(65536):
                pass
            for _ in range(3):
                engine.next(Generate)
            worker.send(Drain(0.1))
            for connection in (stream, whole, other):
                while connection.recv(65536):
                    pass
        worker.process.join(WAIT)
        usages = [worker.usages.get(timeout=WAIT) for _ in range(3)]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((line["status"], line["outcome"]) for line in lines) == [
        (200, "failed"),
        (503, "failed"),
        (503, "failed"),
    ]
    assert [usage.completion for usage in usages] == [3, 3, 3]
    assert worker.usages.empty()
