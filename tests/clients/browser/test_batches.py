"""Batches that a program created, on the page of their key."""

import json

import openai
import pytest
from clients.browser.actions import enter_keys, open_tab
from clients.browser.axe import findings
from playwright.sync_api import expect
from support.node_process import CHAT, EMBEDDING
from support.worker_process import KEY

pytestmark = pytest.mark.clients


def create(client: openai.OpenAI, endpoint: str, bodies: list[dict]) -> str:
    """The id of a new batch with these requests."""
    lines = [
        {"custom_id": f"line-{i}", "method": "POST", "url": endpoint, "body": body}
        for i, body in enumerate(bodies)
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("lines.jsonl", data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h"
    ).id


def test_batches_are_followed_cancelled_and_downloaded(visit_to, whole_node):
    client = openai.OpenAI(base_url=f"{whole_node.url}/v1", api_key=KEY)
    visit = visit_to(whole_node.url)
    enter_keys(visit, KEY)
    panel = open_tab(visit, "Batches")
    expect(panel).to_contain_text("None.")
    assert findings(visit) == []

    texts = [{"model": EMBEDDING, "input": f"Text {i}."} for i in range(3)]
    short = create(client, "/v1/embeddings", texts)
    panel.get_by_role("button", name="Refresh").click()
    row = panel.get_by_role("row").filter(has_text=short)
    # From here on the page asks by itself, until nothing more will change.
    expect(row).to_contain_text("completed", timeout=60_000)
    expect(row).to_contain_text("3 of 3")
    with visit.page.expect_download() as download:
        row.get_by_role("button", name=f"Results {short}").click()
    answers = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert [one["custom_id"] for one in answers] == ["line-0", "line-1", "line-2"]
    assert {one["response"]["status_code"] for one in answers} == {200}

    story = {"model": CHAT, "messages": [{"role": "user", "content": "Tell a long story."}]}
    endless = create(client, "/v1/chat/completions", [story | {"max_tokens": 1500}] * 20)
    panel.get_by_role("button", name="Refresh").click()
    row = panel.get_by_role("row").filter(has_text=endless)
    expect(row).to_contain_text("in_progress")
    expect(row).to_contain_text("of 20")
    assert findings(visit) == []
    row.get_by_role("button", name=f"Cancel {endless}").click()
    expect(row).to_contain_text("cancelled", timeout=60_000)
    expect(row.get_by_role("button", name="Cancel")).to_have_count(0)
    assert client.batches.retrieve(endless).status == "cancelled"
