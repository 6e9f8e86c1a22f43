"""Each agent finishes its loop with nothing but what ``mlxnode launch`` gives it."""

import os

import pytest
from clients.launched import LAUNCHED
from clients.loop import KEY, TIMEOUT, Workspace, run
from clients.recorder import Recorder
from clients.test_clients import told

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.timeout(2 * TIMEOUT)]


@pytest.mark.parametrize("client", LAUNCHED, ids=lambda client: client.name)
def test_launched_agent_finishes_its_loop_and_no_file_has_the_key(client, node, workspaces):
    if not client.needs.exists():
        pytest.skip(f"{client.needs} is missing: tests/clients/packages/install.sh")
    workspace = workspaces[client.name]
    with Recorder.before(node.url) as recorder:
        done = run(client, workspace, recorder)
    assert done.code == 0, told(done)
    assert workspace.word in done.output, told(done)
    assert client.api in {exchange.path.partition("?")[0] for exchange in done.exchanges}
    assert not [e for e in done.exchanges if e.status != 200], told(done)
    assert files_with(KEY, workspace) == []


def files_with(text: str, workspace: Workspace) -> list[str]:
    found = []
    for folder, _, names in os.walk(workspace.home):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    if text.encode() in file.read():
                        found.append(path)
    return found
