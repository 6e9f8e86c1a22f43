"""What a user does on the page, by the roles and names that a screen reader tells."""

from clients.browser.chromium import Visit
from playwright.sync_api import Locator, expect


def enter_keys(visit: Visit, api: str = "", admin: str = "") -> None:
    """Open the page, and type the keys into the dialog that asks for them."""
    page = visit.page
    page.goto(visit.url)
    dialog = page.get_by_role("dialog", name="Keys of this node")
    expect(dialog).to_be_visible()
    dialog.get_by_label("API key").fill(api)
    dialog.get_by_label("Admin key").fill(admin)
    dialog.get_by_role("button", name="Use these keys").click()
    expect(dialog).to_be_hidden()


def open_tab(visit: Visit, name: str) -> Locator:
    """Show a part of the page, which is returned."""
    visit.page.get_by_role("tab", name=name).click()
    panel = visit.page.get_by_role("tabpanel", name=name)
    expect(panel).to_be_visible()
    return panel


def ask(visit: Visit, text: str) -> Locator:
    """Send a message of the playground; the article of the answer, which may be unfinished."""
    page = visit.page
    log = page.get_by_role("group", name="Conversation")
    before = log.get_by_role("article").count()
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send", exact=True).click()
    answer = log.get_by_role("article").nth(before + 1)
    expect(answer).to_be_visible()
    return answer


def finished(answer: Locator) -> Locator:
    """``answer``, once no more of it comes."""
    expect(answer).not_to_have_attribute("aria-busy", "true", timeout=30_000)
    return answer


def set_parameter(visit: Visit, name: str, value: str) -> None:
    """Fill a field of the parameters, which are folded before and after."""
    summary = visit.page.get_by_text("System prompt, parameters, tools")
    summary.click()
    visit.page.get_by_label(name).fill(value)
    summary.click()


def chat_briefly(visit: Visit, text: str) -> Locator:
    """As ``chat``, for a model that may have no end."""
    set_parameter(visit, "Max tokens", "8")
    return chat(visit, text)


def chat(visit: Visit, text: str) -> Locator:
    """Send a message, and wait for all of the answer."""
    return finished(ask(visit, text))
