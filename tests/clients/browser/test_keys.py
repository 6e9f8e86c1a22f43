"""The dialog that asks for the keys, and what the page shows with each of them."""

import pytest
from clients.browser.actions import chat_briefly, enter_keys, open_tab
from playwright.sync_api import expect
from support.worker_process import ADMIN_KEY, KEY

pytestmark = pytest.mark.clients
ALWAYS = ["Figures", "Models", "Requests"]
OF_API_KEYS = ["Playground", "Embeddings", "Batches"]
OF_ADMINS = ["Keys and usage"]


def shown_tabs(visit) -> set[str]:
    return set(visit.page.get_by_role("tab").all_inner_texts())


def stored(visit) -> dict:
    return visit.page.evaluate(
        """() => ({session: {...sessionStorage}, local: {...localStorage},
            cookie: document.cookie})"""
    )


def test_wrong_key_is_told_and_not_kept(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    page = visit.page
    page.goto(visit.url)
    dialog = page.get_by_role("dialog", name="Keys of this node")
    field = dialog.get_by_label("API key")
    expect(field).to_be_focused()
    for wrong in ("sk-wrong-0123456789", "schlüssel", "<b>key</b>"):
        field.fill(wrong)
        field.press("Enter")
        expect(dialog.get_by_role("alert").first).to_contain_text("key")
        expect(field).to_be_focused()
    expect(dialog).to_be_visible()
    assert stored(visit)["session"] == {}
    # The browser itself writes a line for each answer with the status 401.
    visit.provoked.append("401")


def test_keys_in_the_wrong_fields_are_told(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    visit.page.goto(visit.url)
    dialog = visit.page.get_by_role("dialog", name="Keys of this node")
    dialog.get_by_label("API key").fill(KEY)
    dialog.get_by_label("Admin key").fill(KEY)
    dialog.get_by_role("button", name="Use these keys").click()
    expect(dialog.get_by_role("alert").last).to_contain_text("key")
    expect(dialog).to_be_visible()
    visit.provoked += ["401", "403"]


def test_keys_stay_in_the_tab_alone(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    enter_keys(visit, KEY, ADMIN_KEY)
    chat_briefly(visit, "Hi")
    visit.page.reload()
    expect(visit.page.get_by_text("API key and admin key")).to_be_visible()
    now = stored(visit)
    assert set(now["session"].values()) == {KEY, ADMIN_KEY}
    assert (now["local"], now["cookie"]) == ({}, "")
    assert visit.context.cookies() == []
    assert visit.page.evaluate("async () => (await indexedDB.databases()).length") == 0
    assert visit.page.evaluate("async () => (await caches.keys()).length") == 0
    assert not any(KEY in one.url or ADMIN_KEY in one.url for one in visit.requests)
    other = visit.context.new_page()  # another tab of the same browser
    other.goto(visit.url)
    expect(other.get_by_role("dialog", name="Keys of this node")).to_be_visible()
    assert other.evaluate("sessionStorage.length") == 0


def test_forgotten_keys_are_gone(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    enter_keys(visit, KEY, ADMIN_KEY)
    visit.page.get_by_role("button", name="Keys", exact=True).click()
    dialog = visit.page.get_by_role("dialog", name="Keys of this node")
    dialog.get_by_role("button", name="Forget keys").click()
    expect(dialog.get_by_label("API key")).to_have_value("")
    expect(visit.page.get_by_text("no key", exact=True).first).to_be_visible()
    assert KEY not in str(stored(visit)) and ADMIN_KEY not in str(stored(visit))
    assert OF_ADMINS[0] not in shown_tabs(visit)
    visit.page.reload()
    expect(dialog).to_be_visible()
    visit.provoked.append("401")


def test_an_api_key_shows_nothing_of_the_admin(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    enter_keys(visit, KEY)
    assert not set(OF_ADMINS) & shown_tabs(visit)
    assert set(ALWAYS + OF_API_KEYS) <= shown_tabs(visit)
    models = open_tab(visit, "Models")
    expect(models.get_by_role("listitem").first).to_be_visible()
    expect(models.get_by_role("button")).to_have_count(0)
    expect(open_tab(visit, "Figures")).to_contain_text("those of the key")
    assert not any("/admin/" in one.url for one in visit.requests)


def test_an_admin_key_alone_shows_no_playground(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    enter_keys(visit, admin=ADMIN_KEY)
    assert set(ALWAYS + OF_ADMINS) <= shown_tabs(visit)
    assert not set(OF_API_KEYS) & shown_tabs(visit)
    models = open_tab(visit, "Models")
    expect(models.get_by_role("button", name="Unload").first).to_be_visible()


def test_a_key_that_is_changed_on_the_node_is_asked_for_again(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    enter_keys(visit, KEY)
    visit.page.evaluate("sessionStorage.setItem('mlxnode.api', 'sk-of-yesterday')")
    page = visit.page
    page.get_by_label("Message").fill("Hi")
    page.get_by_label("Message").press("Enter")
    expect(page.get_by_role("dialog", name="Keys of this node")).to_be_visible()
    visit.provoked.append("401")
