"""Pictures of the page for the documentation; ``MLXNODE_SCREENSHOTS=1`` writes them anew."""

import os
from pathlib import Path

import pytest
from clients.browser.actions import chat, enter_keys, open_tab, set_parameter
from clients.browser.chromium import ROOM_PHONE
from playwright.sync_api import expect
from support.node_process import CHAT, EMBEDDING
from support.worker_process import ADMIN_KEY, KEY

pytestmark = pytest.mark.clients
IMAGES = Path(__file__).parents[3] / "docs" / "images"
QUESTION = "What is the capital of France?"
LIMIT = 150_000  # bytes of a picture


@pytest.fixture
def keep(tmp_path):
    """Take a picture of what a visit shows; keep it where that is asked for."""

    def take(visit, name: str) -> None:
        folder = IMAGES if os.environ.get("MLXNODE_SCREENSHOTS") else tmp_path
        folder.mkdir(exist_ok=True)
        file = folder / f"page-{name}.png"
        visit.page.screenshot(path=file, animations="disabled", caret="hide")
        assert 5_000 < file.stat().st_size < LIMIT
        assert (IMAGES / file.name).exists(), "MLXNODE_SCREENSHOTS=1 writes it"

    return take


def conversation(visit) -> None:
    enter_keys(visit, KEY, ADMIN_KEY)
    set_parameter(visit, "Temperature", "0")
    set_parameter(visit, "Max tokens", "24")
    expect(chat(visit, QUESTION)).to_contain_text("Paris")
    expect(visit.page.get_by_text("live", exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_picture_of_the_playground(visit_to, whole_node, keep, scheme):
    visit = visit_to(
        whole_node.url, color_scheme=scheme, viewport={"width": 1000, "height": 640}
    )
    conversation(visit)
    keep(visit, f"chat-{scheme}")


def test_picture_of_a_phone(visit_to, whole_node, keep):
    phone = {**ROOM_PHONE, "width": 390, "height": 760}
    visit = visit_to(whole_node.url, viewport=phone)
    conversation(visit)
    keep(visit, "phone")


def test_pictures_of_figures_and_models(visit_to, whole_node, keep):
    visit = visit_to(whole_node.url, viewport={"width": 1000, "height": 760})
    conversation(visit)
    for _ in range(2):  # so that the lines have something to show
        chat(visit, "And of Italy?")
    figures = open_tab(visit, "Figures")
    key = figures.get_by_role("region", name="Use of each key").get_by_role("row")
    expect(key.nth(1)).to_be_visible()
    keep(visit, "figures")
    models = open_tab(visit, "Models")
    for name in (CHAT, EMBEDDING):
        expect(models.get_by_role("listitem").filter(has_text=name)).to_contain_text("loaded")
    keep(visit, "models")
