"""One node for all clients, with a model for each one."""

import os
from collections.abc import Iterator

import pytest
from clients.loop import KEY, Client, Workspace
from support.node_process import NodeProcess
from support.notation_templates import FAMILIES
from support.reading_model import ReadingModel

FAMILY = FAMILIES["qwen2.5"]
# Requests are only those of one client at a time, and nobody waits for the tokens of a minute.
CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{KEY}"
[server]
workers = 2
response_store = 100
"""


@pytest.fixture(scope="session")
def clients(request) -> list[Client]:
    """Those that are tested now."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    return [call.params["client"] for call in calls if call and "client" in call.params]


@pytest.fixture(scope="session")
def workspaces(clients, tmp_path_factory) -> dict[str, Workspace]:
    root = tmp_path_factory.mktemp("clients")
    return {client.name: Workspace.make(root / client.name) for client in clients}


@pytest.fixture(scope="session")
def node(clients, workspaces, tmp_path_factory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("node")
    config = CONFIG
    for client in clients:
        folder = root / client.name
        ReadingModel(folder, FAMILY, client.turns(workspaces[client.name]))
        config += f'[api.models.{client.name}]\npath = "{folder}"\ntype = "chat"\n'
    with NodeProcess(root, config) as process:
        process.wait_ready(300)
        yield process


@pytest.fixture(scope="session")
def is_recording() -> bool:
    """True if what the clients send is to be kept for the replay."""
    return bool(os.environ.get("RECORD_CLIENTS"))
