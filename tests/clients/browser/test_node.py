"""The page of a whole node: figures, models, embeddings, requests, keys; and its bytes."""

import re

import pytest
from clients.browser.actions import ask, chat_briefly, enter_keys, finished, open_tab
from playwright.sync_api import expect
from support.node_process import CHAT, EMBEDDING
from support.worker_process import ADMIN_KEY, KEY

pytestmark = pytest.mark.clients
STORY = "Tell a very long story about a ship that crosses all the seas."


@pytest.fixture
def visit(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    enter_keys(visit, KEY, ADMIN_KEY)
    return visit


def number(locator) -> float:
    found = re.search(r"[\d,.]+", locator.locator(".value").inner_text())
    return float(found[0].replace(",", "")) if found else 0.0


def test_figures_move(visit):
    expect(visit.page.get_by_text("live", exact=True)).to_be_visible()
    answer = ask(visit, STORY)
    expect(answer.get_by_role("paragraph").first).not_to_be_empty()
    figures = open_tab(visit, "Figures")
    rate = figures.get_by_role("group", name="Generated tokens/s")
    expect(rate.locator(".value")).to_have_text(re.compile(r"[1-9]"))
    expect(rate.get_by_role("img")).to_have_accessible_name(re.compile("at most [1-9]"))
    open_tab(visit, "Playground")
    visit.page.get_by_role("button", name="Stop").click()
    finished(answer)
    expect(open_tab(visit, "Requests")).to_contain_text("None.")
    figures = open_tab(visit, "Figures")
    keys = figures.get_by_role("region", name="Use of each key").get_by_role("row")
    expect(keys.nth(1)).to_be_visible()


def test_request_in_flight_is_cancelled(visit):
    answer = ask(visit, STORY)
    requests = open_tab(visit, "Requests")
    row = requests.get_by_role("row").filter(has_text=CHAT)
    expect(row).to_contain_text("/v1/chat/completions")
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_have_count(0)
    expect(requests).to_contain_text("None.")
    open_tab(visit, "Playground")
    expect(finished(answer).get_by_role("alert")).to_contain_text("cancel")


def test_models_load_unload_and_pin(visit):
    models = open_tab(visit, "Models")
    card = models.get_by_role("listitem").filter(has_text=EMBEDDING)
    state = card.locator("p").first
    expect(state).to_contain_text("loaded")
    expect(card).to_contain_text("384 dimensions")
    card.get_by_role("button", name=re.compile("^Unload")).click()
    expect(state).to_have_text(re.compile("^unloaded"))
    card.get_by_role("button", name=re.compile("^Pin")).click()
    expect(state).to_have_text(re.compile("^loaded · pinned"))
    card.get_by_role("button", name=re.compile("^Unpin")).click()
    expect(state).to_have_text(re.compile("^loaded(?! · pinned)"))
    card.get_by_role("button", name=re.compile("^Unload")).click()
    card.get_by_role("button", name=re.compile("^Load")).click()
    expect(state).to_have_text(re.compile("^loaded"))


def test_similar_texts_have_the_largest_cosine(visit):
    panel = open_tab(visit, "Embeddings")
    panel.get_by_role("button", name="Compare").click()
    cells = panel.get_by_role("region", name="Similarity").get_by_role("cell")
    expect(cells.filter(has_text="1.00")).to_have_count(3)
    numbers = [float(text) for text in cells.all_inner_texts() if text.strip()]
    rows = [numbers[i : i + 3] for i in range(0, 9, 3)]
    assert rows[0][1] == rows[1][0] > max(rows[0][2], rows[1][2])
    panel.get_by_label("Texts").fill("alone")
    panel.get_by_role("button", name="Compare").click()
    expect(panel.get_by_role("alert")).to_contain_text("2 to")


def test_keys_and_usage_are_shown(visit):
    chat_briefly(visit, "Hi")
    panel = open_tab(visit, "Keys and usage")
    known = panel.get_by_role("region", name="Keys").get_by_role("row")
    expect(known.filter(has_text="admin key")).to_have_count(1)
    expect(known.filter(has_text="API key")).to_have_count(1)
    assert KEY not in panel.inner_text() and ADMIN_KEY not in panel.inner_text()
    panel.get_by_label("By").select_option("model")
    panel.get_by_role("button", name="Show").click()
    expect(panel.get_by_role("row").filter(has_text=CHAT)).to_be_visible()
    panel.get_by_label("From").fill("2020-01-01")
    panel.get_by_label("To").fill("2020-01-02")
    panel.get_by_role("button", name="Show").click()
    expect(panel).to_contain_text("Nothing was used")


def test_page_is_small(visit_to, whole_node, capsys):
    visit = visit_to(whole_node.url)
    sizes: dict[str, int] = {}
    bodies: dict[str, int] = {}

    def note(request) -> None:
        path = request.url.removeprefix(visit.url)
        if path == "/" or path.startswith("/page/"):
            sizes[path] = sizes.get(path, 0) + request.sizes()["responseBodySize"]
            bodies[path] = len(request.response().body())

    visit.context.on("requestfinished", note)
    visit.page.goto(visit.url)
    expect(visit.page.get_by_role("dialog")).to_be_visible()
    visit.page.wait_for_load_state("load")
    files = {path for path in bodies if path.startswith("/page/")} | {"/"}
    with capsys.disabled():
        print(
            f"\nthe page: {len(files)} files, {sum(bodies.values()):,} bytes,"
            f" {sum(sizes.values()):,} compressed"
        )
    assert sum(bodies.values()) <= 60_000
    assert 0 < sum(sizes.values()) <= 30_000
