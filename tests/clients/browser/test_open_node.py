"""A node that needs no key, and what becomes of the page when it goes away and comes back."""

import json

import httpx2 as httpx
import pytest
from clients.browser.actions import ask, chat_briefly, finished, open_tab
from playwright.sync_api import expect
from support.node_process import CHAT, NodeProcess

pytestmark = pytest.mark.clients
CONFIG = f"""
[api]
address = "127.0.0.1:0"
require_auth = false
[api.models.{CHAT}]
path = "demo/{CHAT}"
type = "chat"
context_length = 2048
[server]
workers = 1
"""


def wait_for_requests(url: str, wanted: int) -> None:
    """Read the node's own figures until ``wanted`` requests are in flight."""
    headers = {"accept": "text/event-stream"}
    with httpx.stream("GET", f"{url}/v1/figures", headers=headers, timeout=30) as response:
        lines = (line for line in response.iter_lines() if line.startswith("data:"))
        assert any(json.loads(line[5:])["num_requests"] == wanted for line in lines)


def test_open_node_asks_for_no_key_and_is_found_again(visit_to, tmp_path):
    with NodeProcess(tmp_path, CONFIG) as node:
        node.wait_ready()
        visit = visit_to(node.url)
        page = visit.page
        page.goto(node.url)
        expect(page.get_by_text("no key needed")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        link = page.locator("header").get_by_role("status")
        expect(link).to_have_text("live")
        expect(page.get_by_role("tab", name="Keys and usage")).to_be_hidden()

        stopped = ask(visit, "Tell a very long story about a ship.")
        expect(stopped.get_by_role("paragraph").first).not_to_be_empty()
        wait_for_requests(node.url, 1)
        page.get_by_role("button", name="Stop").click()
        expect(finished(stopped)).to_contain_text("stopped")
        wait_for_requests(node.url, 0)

        # An open node without an admin key lets everybody load and unload.
        card = open_tab(visit, "Models").get_by_role("listitem").filter(has_text=CHAT)
        expect(card.get_by_role("button", name=f"Unload {CHAT}")).to_be_visible()
        open_tab(visit, "Playground")
        answer = chat_briefly(visit, "Hi")
        visit.provoked += ["ERR_", "/v1/figures"]
    expect(link).to_have_text("disconnected")
    port = node.url.rpartition(":")[2]
    with NodeProcess(tmp_path, CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}")) as node:
        node.wait_ready()
        expect(link).to_have_text("live", timeout=30_000)
        expect(answer).to_be_visible()  # what was said is still there
        chat_briefly(visit, "Are you back?")
