"""Large bodies are read in processes of the worker, which nobody misses when they end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.node_process import is_running

from mlxnode.server.errors import InvalidRequest, Unavailable
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.tokens.schema import ConversationBody, TextBody, schema_of
from mlxnode.server.reading import reader_process
from mlxnode.server.reading.reader import BodyReader
from mlxnode.server.reading.shape import SMALL_BYTES, SMALL_VALUES, is_small

USER = {"role": "user", "content": "hi"}
LARGE = {"model": "m", "messages": [USER] * 1000}


def body_of(**fields) -> bytes:
    return json.dumps(LARGE | fields).encode()


def pid_of(reader: BodyReader) -> int:
    pid = reader._idle[-1].pid
    assert pid is not None
    return pid


@pytest.fixture
def reader():
    reader = BodyReader()
    yield reader
    for process in reader._idle:
        process.stop()


def test_a_body_is_small_by_its_bytes_and_its_values():
    assert is_small(b"{}" + b" " * (SMALL_BYTES - 2))
    assert not is_small(b"{}" + b" " * SMALL_BYTES)
    assert is_small(b'[""]' + b',""' * (SMALL_VALUES - 2))
    assert not is_small(b'[""]' + b',""' * SMALL_VALUES)
    assert is_small(json.dumps({"prompt": [1] * 40_000}).encode())


@pytest.mark.slow
async def test_a_large_body_is_read_as_a_small_one(reader):
    read = await reader.read(body_of(colour="red", stop={}), ChatBody)
    assert read.body == ChatBody.model_validate(LARGE | {"stop": []})
    assert read.ignored == ["colour"]
    with pytest.raises(InvalidRequest) as caught:
        await reader.read(body_of(colour="red"), ChatBody, strict=True)
    assert (caught.value.param, caught.value.code) == ("colour", "unknown_parameter")
    with pytest.raises(InvalidRequest, match="not valid JSON") as caught:
        await reader.read(body_of()[:-1], ChatBody)
    assert (
        await reader.read(
            b'{"model": "m", "messages": [{"role": "user", "content": ""}]}', ChatBody
        )
    ).body.model == "m"


@pytest.mark.slow
async def test_a_body_chooses_its_schema_and_gets_defaults(reader):
    conversation = {"messages": LARGE["messages"]}
    for raw, schema in (
        ({"prompt": "a" * SMALL_BYTES}, TextBody),
        (conversation, ConversationBody),
    ):
        body = json.dumps(raw).encode()
        read = await reader.read(body, schema_of, defaults={"model": "only"})
        assert type(read.body) is schema and read.body.model == "only"


@pytest.mark.slow
async def test_a_process_that_is_killed_is_replaced(reader):
    await reader.read(body_of(), ChatBody)
    first = pid_of(reader)
    os.kill(first, signal.SIGSTOP)
    waiting = asyncio.ensure_future(reader.read(body_of(), ChatBody))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(Unavailable):
        await waiting
    assert (await reader.read(body_of(), ChatBody)).body.model == "m"
    assert pid_of(reader) != first and not is_running(first)


@pytest.mark.slow
async def test_a_process_that_is_too_slow_is_replaced(reader, monkeypatch):
    await reader.read(body_of(), ChatBody)
    first = pid_of(reader)
    monkeypatch.setattr(reader._idle[-1], "timeout", 0.2)
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(Unavailable):
        await reader.read(body_of(), ChatBody)
    monkeypatch.undo()
    await reader.read(body_of(), ChatBody)
    assert pid_of(reader) != first and not is_running(first)


@pytest.mark.long
@pytest.mark.slow
async def test_a_process_ends_when_it_has_grown(reader):
    await reader.read(body_of(), ChatBody)
    first = pid_of(reader)
    numbers = b"[" + b"1.5," * 7_500_000 + b"1.5]"
    body = body_of()[:-1] + b',"metadata":{"a":' + numbers + b"}}"
    assert (await reader.read(body, ChatBody)).body.model == "m"
    assert reader._idle[-1].pid is None and not is_running(first)


@pytest.mark.slow
def test_a_process_ends_with_its_worker():
    program = (
        "import asyncio, json, os, signal\n"
        "from mlxnode.server.formats.chat.schema import ChatBody\n"
        "from mlxnode.server.reading.reader import BodyReader\n"
        "reader = BodyReader()\n"
        f"asyncio.run(reader.read({body_of()!r}, ChatBody))\n"
        "print(reader._idle[-1].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    pid = int(ended.stdout)
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)


@pytest.mark.slow
def test_the_process_imports_neither_sanic_nor_mlx_nor_transformers():
    schemas = "chat", "completions", "embeddings", "messages", "rerank", "responses", "tokens"
    imports = [f"import mlxnode.server.formats.{schema}.schema" for schema in schemas]
    program = "\n".join(
        [
            f"import sys, {reader_process.__name__}",
            *imports,
            "print([m for m in ('sanic', 'mlx', 'transformers') if m in sys.modules])",
        ]
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert ended.stdout.strip() == "[]"
