"""Each client lists a folder, reads the file in it, and tells what the file says."""

import pytest
from clients.every import CLIENTS
from clients.loop import TIMEOUT, Client, Run, run
from clients.recorder import Exchange, Recorder
from clients.recording import record

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.timeout(2 * TIMEOUT)]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client_finishes_its_loop(client: Client, node, workspaces, is_recording):
    if not client.needs.exists():
        pytest.skip(f"{client.needs} is missing: tests/clients/packages/install.sh")
    workspace = workspaces[client.name]
    with Recorder.before(node.url) as recorder:
        done = run(client, workspace, recorder)
    assert done.code == 0, told(done)
    assert workspace.word in done.output, told(done)
    for exchange in done.exchanges:
        assert exchange.status == 200, told(done)
    asked, *later = turns(client, done)
    assert workspace.name not in asked.body.decode(), "the first prompt names the file"
    listed = first_with(workspace.name, later)
    assert listed, f"the listing did not come back\n{told(done)}"
    assert workspace.word not in listed.body.decode()
    read = first_with(workspace.word, later)
    assert read, f"the file did not come back\n{told(done)}"
    for exchange in (listed, read):
        num_tokens, num_cached = exchange.counts
        assert num_cached >= client.least_cached * num_tokens, (num_cached, num_tokens)
    if is_recording and client.is_replayed:
        record(client, workspace, done.exchanges)


def turns(client: Client, done: Run) -> list[Exchange]:
    """The requests of the loop itself: agents also ask for a title without their tools."""
    asked = [e for e in done.exchanges if e.path.partition("?")[0] == client.api]
    with_tools = [exchange for exchange in asked if exchange.json.get("tools")]
    return with_tools or asked


def first_with(word: str, exchanges: list[Exchange]) -> Exchange | None:
    """The first request that has ``word``; an agent may ask again before it has a result."""
    return next((e for e in exchanges if word in e.body.decode()), None)


def told(done: Run) -> str:
    """What a failing client has said and heard."""
    heard = [
        f"{e.method} {e.path} {e.status} {e.answer[:2000] if e.status != 200 else ''}"
        for e in done.exchanges
    ]
    return "\n".join([f"exit status {done.code}", done.output, *heard])
