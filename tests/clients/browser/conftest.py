"""Chromium, a whole node for what the page shows, and a worker whose answers tests write."""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import tiny
from support.node_process import CHAT, EMBEDDING, NodeProcess
from support.worker_process import ADMIN_KEY, KEY, WorkerProcess, started_worker

from mlxnode.models.served import ServedModel

if importlib.util.find_spec("playwright") is None:  # only `make test-clients` installs it
    collect_ignore_glob = ["test_*.py"]
else:
    from clients.browser.actions import enter_keys
    from clients.browser.chromium import Visit, started_chromium
    from playwright.sync_api import Browser

CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{KEY}"
admin_key = "{ADMIN_KEY}"
[api.models.{CHAT}]
path = "demo/{CHAT}"
type = "chat"
context_length = 2048
[api.models.{EMBEDDING}]
path = "demo/{EMBEDDING}"
type = "embedding"
[server]
workers = 2
"""
LONG = 400_000  # tokens: no answer of the tests is cut


# Playwright runs an event loop of its own in this thread, so it ends before other tests begin.
@pytest.fixture(scope="package")
def chromium() -> "Iterator[Browser]":
    with started_chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def whole_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with the demo models, an API key and an admin key."""
    with NodeProcess(tmp_path_factory.mktemp("node"), CONFIG) as node:
        node.wait_ready()
        yield node


@pytest.fixture(scope="package")
def started_scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("models") / "tools"
    tiny.make_chat_model(folder, template=tiny.TOOL_TEMPLATE)
    chat = ServedModel(
        id="tiny-chat",
        type="chat",
        folder=folder,
        weights=folder,
        architecture="llama",
        context_length=LONG,
        dimensions=None,
        default_temperature=None,
        size_bytes=1,
        created=1_700_000_000,
    )
    text = dataclasses.replace(chat, id="tiny-text", type="completion")
    with started_worker([chat, text], {}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def scripted(started_scripted: WorkerProcess) -> WorkerProcess:
    """A worker whose ``engine`` is the test: it has chat, but no figures and no admin."""
    started_scripted.settle()
    return started_scripted


@pytest.fixture
def visit(visit_to: "Callable[..., Visit]", scripted: WorkerProcess) -> "Visit":
    """The page of ``scripted``, with an API key."""
    visit = visit_to(scripted.url, permissions=["clipboard-read", "clipboard-write"])
    visit.provoked.append("/v1/figures")  # this worker has no node around it
    enter_keys(visit, KEY)
    return visit


@pytest.fixture
def visit_to(chromium: "Browser") -> "Iterator[Callable[..., Visit]]":
    """Open a fresh profile for a node. What went wrong there fails the test at its end."""
    visits: list[Visit] = []

    def open_one(url: str, **options: Any) -> Visit:
        visits.append(Visit(chromium, url, **options))
        return visits[-1]

    yield open_one
    try:
        for visit in visits:
            assert visit.foreign_requests() == []
            assert visit.violations() == []
            assert visit.unexpected() == []
    finally:
        for visit in visits:
            visit.close()
