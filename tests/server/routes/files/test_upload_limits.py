"""Uploads to ``/v1/files``: memory, sizes, quotas, and clients that are slow or leave."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import psutil
import pytest
from support.raw_sockets import connect, read_all
from support.uploads import FILE, MIB, PURPOSE, form, head_of, names, post


def test_a_file_is_streamed_to_the_disk_and_back_with_flat_memory(worker, client, folder):
    size = 24 * MIB  # max_body_bytes is 1 MB

    def data():
        head, tail = form(PURPOSE, FILE).split(b"{}\n")
        yield head
        block = os.urandom(MIB)
        for _ in range(size // MIB):
            yield block
        yield tail

    process = psutil.Process(worker.process.pid)
    first = post(worker, form(PURPOSE, FILE))
    client.files.content(first.json()["id"]).read()
    before = process.memory_info().rss
    peak, ended = before, threading.Event()

    def watch():
        nonlocal peak
        while not ended.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = post(worker, data())
        received = 0
        with client.files.with_streaming_response.content(answer.json()["id"]) as content:
            for piece in content.iter_bytes(MIB):
                received += len(piece)
    finally:
        ended.set()
        watcher.join()
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == received == size
    assert peak - before < 12 * MIB


def test_a_file_beyond_the_limit_is_refused_before_it_is_sent(worker):
    with connect(worker) as connection:
        connection.sendall(head_of(worker, 70 * MIB))
        assert b" 413 " in connection.recv(65536).splitlines()[0]


def test_a_file_of_unknown_size_beyond_the_limit_is_refused(worker, folder):
    def data():
        yield form(PURPOSE, FILE).split(b"{}\n")[0]
        for _ in range(66):
            yield b"x" * MIB

    answer = post(worker, data())
    assert answer.status_code == 413
    assert names(folder) == set()


def test_the_quota_of_a_key_holds_before_and_during_uploads(worker, upload, client):
    """80 MiB: two files of 30, and no third one, whether its size is known or not."""
    block = b"x" * (30 * MIB)
    first = upload(block)
    upload(block)
    with pytest.raises(openai.APIStatusError) as refused:
        upload(block)
    assert refused.value.status_code == 413
    assert refused.value.code == "storage_quota_exceeded"

    def data():
        head, tail = form(PURPOSE, FILE).split(b"{}\n")
        yield head
        for _ in range(30):
            yield b"x" * MIB
        yield tail

    answer = post(worker, data())
    assert answer.json()["error"]["code"] == "storage_quota_exceeded"
    client.files.delete(first.id)
    upload(block)


def test_many_uploads_at_once_share_the_quota(worker, client):
    body = form(PURPOSE, (FILE[0], b"x" * (12 * MIB)))
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: post(worker, body), range(10)))
    kept = [answer for answer in answers if answer.status_code == 200]
    others = {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200}
    assert 1 <= len(kept) <= 6 and others == {"storage_quota_exceeded"}
    assert len(list(client.files.list())) == len(kept)


def test_a_client_that_leaves_leaves_nothing(worker, upload, folder):
    with connect(worker) as connection:
        connection.sendall(head_of(worker, 60 * MIB))
        assert b" 100 " in connection.recv(100)  # the upload has begun
        assert any(name.endswith(".part") for name in names(folder))
        connection.sendall(form(PURPOSE, FILE, end=False) + b"x" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in read_all(connection).splitlines()[0]
    assert names(folder) == set()
    assert upload(b"x" * (60 * MIB)).bytes == 60 * MIB  # the quota is free again


def test_a_client_that_is_slow_is_refused(start_worker, served_models, tmp_path):
    server = {"batches": {"folder": str(tmp_path)}, "request_timeout": 1.0}
    with start_worker(served_models, {}, server) as worker, connect(worker) as connection:
        connection.sendall(head_of(worker, MIB))
        assert b" 100 " in connection.recv(100)
        connection.sendall(form(PURPOSE, FILE, end=False))
        assert b" 408 " in read_all(connection).splitlines()[0]
        assert names(tmp_path) == set()
