"""A node that lacks memory, descriptors, or room on the disk."""

import asyncio
import os
import resource

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.exhaustive
async def test_memory_for_one_request_at_a_time_serves_all(own_node, round):
    """Requests of 3,000 tokens; the caches hold about one of them."""
    node = own_node(engine="kv_cache_gb = 0.004\nprefix_cache_gb = 0.0")
    await node.recovers()
    answers = await asyncio.gather(*(node.answer(f"{round} {i}", 3000) for i in range(6)))
    assert {answer.status for answer in answers} == {200}
    await node.is_clean()


async def test_memory_for_no_request_is_said_and_short_ones_run(own_node, round):
    node = own_node(engine="kv_cache_gb = 0.002\nprefix_cache_gb = 0.0")
    await node.recovers()
    refused = await node.answer("word " * 3000, 10)
    assert refused.status == 400 and "KV cache" in refused.text
    assert (await node.answer(round)).status == 200
    await node.is_clean()


async def test_full_disk_costs_stored_answers_and_no_request(
    own_node, round, tmp_path, monkeypatch
):
    """No file can grow: a stored answer is not found later, and nothing else fails."""

    def forbid_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    node = own_node(server="response_store = 10", preexec_fn=forbid_files)
    await node.recovers()
    body = {"model": "chat", "input": round, "max_output_tokens": 5, "temperature": 0}
    answers = [await node.ask("/v1/responses", **body) for _ in range(3)]
    assert {answer.status for answer in answers} == {200}
    node.kill(node.engine_pid())
    await node.recovers()


async def test_node_without_home_and_without_its_temporary_folder_serves(
    own_node, round, tmp_path
):
    """$TMPDIR names no folder, and nobody says where the user is at home."""
    names = ("PATH", "PYTHONPATH", "MLXNODE_CACHE")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    node = own_node(env={**kept, "TMPDIR": str(tmp_path / "none")})
    await node.recovers()
    assert (await node.answer(round)).status == 200
    await node.is_clean()


async def test_node_with_few_descriptors_recovers(own_node, round):
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))

    node = own_node(preexec_fn=few)
    await node.recovers()
    connections = []
    for _ in range(400):
        try:
            async with asyncio.timeout(0.5):
                connections.append(await node.connect())
        except (TimeoutError, OSError):
            break
    for _, writer in connections:
        writer.transport.abort()
    node.kill(node.engine_pid())
    await node.recovers()
    node.kill(node.worker_pids()[0])
    await node.recovers()
