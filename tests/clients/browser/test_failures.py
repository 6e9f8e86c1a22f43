"""What the page says when something goes wrong between it and the node."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from clients.browser.actions import ask, chat, enter_keys, finished, open_tab
from playwright.sync_api import expect
from support.node_process import EMBEDDING
from support.worker_process import ADMIN_KEY, KEY

from mlxnode.messages.data import Generate

pytestmark = pytest.mark.clients
LIMITED = "Too many requests. Try again in 3 s."
READ = """async parts => {
    const {events} = await import("/page/api.js");
    const body = new ReadableStream({start(it) {
        for (const part of parts) it.enqueue(new Uint8Array(part));
        it.close();
    }});
    const found = [];
    for await (const one of events(new Response(body))) found.push([one.event, one.data]);
    return found;
}"""


def refuse(visit, path: str, status: int, message: str) -> None:
    """Answer requests to ``path`` in the place of the node."""
    body = json.dumps({"error": {"message": message}})
    visit.page.route(
        f"**/{path}",
        lambda route: route.fulfill(status=status, body=body, headers={"retry-after": "3"}),
    )
    visit.provoked.append(str(status))


def test_events_are_read_however_they_are_cut(visit):
    text = (
        ": keep-alive\r\n\r\nevent: figures\r\ndata: é漢😀\r\n\r\n"
        'data: {"a": "1"}\ndata:b\nid: 7\n\n\nretry: 1\ndata: cut'
    )
    expected = [["figures", "é漢😀"], ["message", '{"a": "1"}\nb']]
    sent = list(text.encode())
    for size in (1, 2, 3, 7, len(sent)):
        parts = [sent[i : i + size] for i in range(0, len(sent), size)]
        assert visit.page.evaluate(READ, parts) == expected, size


class Way:
    """A TCP way to a server, which can break."""

    def __init__(self, port: int):
        self._port = port
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # of a closed listener
            while True:
                ends = (
                    self._listener.accept()[0],
                    socket.create_connection(("127.0.0.1", self._port)),
                )
                self._sockets += ends
                for source, target in (ends, ends[::-1]):
                    threading.Thread(
                        target=self._copy, args=(source, target), daemon=True
                    ).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # of a broken way
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Break all connections; new ones can come."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()


@pytest.fixture
def way(scripted) -> Iterator[Way]:
    way = Way(urlsplit(scripted.url).port)
    yield way
    way.close()


def test_lost_connection_is_told_and_the_words_stay(visit_to, scripted, way):
    engine = scripted.engine
    visit = visit_to(f"http://127.0.0.1:{way.port}")
    visit.provoked += ["ERR_", "/v1/figures"]
    enter_keys(visit, KEY)
    engine.is_silent = True
    answer = ask(visit, "Hi")
    engine.update(engine.next(Generate).uid, "<think></think>The first words")
    expect(answer).to_contain_text("The first words")
    way.cut()
    expect(finished(answer).get_by_role("alert")).to_contain_text("connection")
    expect(answer).to_contain_text("The first words")
    engine.is_silent = False
    visit.page.get_by_role("button", name="Regenerate").click()
    log = visit.page.get_by_role("group", name="Conversation")
    expect(log).to_contain_text("Hello!")
    expect(log).not_to_contain_text("The first words")


def test_refusals_are_told_in_the_words_of_the_node(visit):
    refuse(visit, "v1/chat/completions", 429, LIMITED)
    expect(chat(visit, "Hi").get_by_role("alert")).to_have_text(LIMITED)
    visit.page.unroute("**/v1/chat/completions")
    visit.page.get_by_role("button", name="Regenerate").click()
    expect(visit.page.get_by_role("article").last).to_contain_text("Hello!")
    expect(visit.page.get_by_role("article")).to_have_count(2)


def test_failures_of_the_admin_are_told_where_they_belong(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    enter_keys(visit, KEY, ADMIN_KEY)
    page = visit.page
    models = open_tab(visit, "Models")
    refuse(visit, f"v1/models/{EMBEDDING}/*load", 507, "It does not fit.")
    card = models.get_by_role("listitem").filter(has_text=EMBEDDING)
    card.get_by_role("button", name=f"Unload {EMBEDDING}").click()
    expect(models.get_by_role("alert")).to_have_text("It does not fit.")
    expect(card).to_have_attribute("aria-busy", "false")
    page.unroute(f"**/v1/models/{EMBEDDING}/*load")
    page.evaluate("sessionStorage.setItem('mlxnode.admin', 'sk-of-yesterday')")
    visit.provoked.append("401")
    open_tab(visit, "Keys and usage")
    dialog = page.get_by_role("dialog", name="Keys of this node")
    expect(dialog).to_be_visible()
    expect(dialog.locator("#key-admin-wrong")).not_to_be_empty()
    expect(dialog.locator("#key-api-wrong")).to_be_empty()
    dialog.get_by_label("Admin key").fill(ADMIN_KEY)
    dialog.get_by_role("button", name="Use these keys").click()
    expect(dialog).to_be_hidden()
    rows = page.get_by_role("region", name="Keys").get_by_role("row")
    expect(rows.filter(has_text="admin key")).to_have_count(1)
    # What is open when the page is loaded is asked for as well.
    page.reload()
    expect(rows.filter(has_text="admin key")).to_have_count(1)
