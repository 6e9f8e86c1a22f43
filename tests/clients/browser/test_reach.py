"""The page for everybody: axe-core, keyboard, zoom, phones, both colour schemes."""

import pytest
from clients.browser.actions import chat, chat_briefly, enter_keys, open_tab
from clients.browser.axe import findings
from clients.browser.chromium import ROOM_PHONE
from clients.browser.test_chat import CALL, MARKDOWN
from playwright.sync_api import expect
from support.worker_process import ADMIN_KEY, KEY

pytestmark = pytest.mark.clients
TABS = [
    "Playground",
    "Figures",
    "Models",
    "Embeddings",
    "Requests",
    "Batches",
    "Keys and usage",
]
# A window of 1280 x 1024 that is zoomed to 200 % lays the page out as one of this size.
ROOM_ZOOMED = {"width": 640, "height": 512}
LONG_WORD = "Donaudampfschifffahrtsgesellschaft" * 20
# Where text or a control is cut, or lies on another one. The tabs are not within each other.
OVERLAPS = """() => {
  const shown = [...document.querySelectorAll("button, input, select, textarea, summary, a")]
    .filter((one) => one.checkVisibility({visibilityProperty: true}) && !one.closest("dialog")
      && !one.matches(".skip, .vh") && !one.closest("#composer, .scroll"));
  const boxes = shown.map((one) => [one, one.getBoundingClientRect()]);
  const found = [];
  boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
    if (a.contains(b) || b.contains(a)) return;
    const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (x > 1 && y > 1) found.push(`${a.outerHTML.slice(0, 60)} ${b.outerHTML.slice(0, 60)}`);
  }));
  const wide = [...document.querySelectorAll("body *")].filter((one) =>
    one.checkVisibility() && !one.closest(".scroll, pre, .skip, .vh, dialog") &&
    one.getBoundingClientRect().right > innerWidth + 1);
  return found.concat(wide.map((one) => `too wide: ${one.outerHTML.slice(0, 80)}`));
}"""


def fill(visit) -> None:
    """Content for the tabs that have none at first."""
    chat_briefly(visit, "Name three colours.")
    open_tab(visit, "Embeddings").get_by_role("button", name="Compare").click()
    expect(visit.page.get_by_role("region", name="Similarity")).to_be_visible()
    expect(visit.page.get_by_text("live", exact=True)).to_be_visible()


def test_axe_finds_nothing(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    visit.page.goto(visit.url)
    expect(visit.page.get_by_role("dialog")).to_be_visible()
    found = {"keys": findings(visit)}
    enter_keys(visit, KEY, ADMIN_KEY)
    fill(visit)
    for tab in TABS:
        open_tab(visit, tab)
        found[tab] = findings(visit)
    open_tab(visit, "Playground")
    visit.page.get_by_text("System prompt, parameters, tools").click()
    found["settings"] = findings(visit)
    visit.page.get_by_role("button", name="Copy as code").click()
    found["copy"] = findings(visit)
    assert {name: one for name, one in found.items() if one} == {}


def test_axe_finds_nothing_in_an_answer(visit, scripted):
    visit.page.get_by_text("System prompt, parameters, tools").click()
    tool = '[{"type": "function", "function": {"name": "weather"}}]'
    visit.page.get_by_label("Tools (JSON").fill(tool)
    scripted.engine.answer = f"<think>A thought.</think>{MARKDOWN}"
    chat(visit, "Hi").get_by_text("Reasoning").click()
    scripted.engine.answer = f"<think>A thought.</think>{CALL}"
    chat(visit, "And the weather?")
    assert findings(visit) == []


def test_theme_of_the_user_wins(visit_to, whole_node):
    visit = visit_to(whole_node.url, color_scheme="dark")
    enter_keys(visit, KEY)
    back = "getComputedStyle(document.body).backgroundColor"
    dark = visit.page.evaluate(back)
    visit.page.get_by_label("Theme").select_option("light")
    light = visit.page.evaluate(back)
    assert sum(map(int, dark[4:-1].split(","))) < 200 < sum(map(int, light[4:-1].split(",")))
    visit.page.reload()
    expect(visit.page.get_by_label("Theme")).to_have_value("light")
    assert visit.page.evaluate(back) == light


def test_narrow_windows_show_all_of_it(visit_to, whole_node):
    visit = visit_to(whole_node.url, viewport=ROOM_PHONE, device_scale_factor=2)
    enter_keys(visit, KEY, ADMIN_KEY)
    fill(visit)
    open_tab(visit, "Playground")
    chat_briefly(visit, f"Repeat: {LONG_WORD}")
    visit.page.get_by_text("System prompt, parameters, tools").click()
    for room in (ROOM_PHONE, ROOM_ZOOMED):
        visit.page.set_viewport_size(room)
        assert_all_is_shown(visit)


def assert_all_is_shown(visit) -> None:
    for tab in TABS:
        open_tab(visit, tab)
        width = "document.documentElement.scrollWidth - innerWidth"
        assert visit.page.evaluate(width) <= 0, tab
        assert visit.page.evaluate(OVERLAPS) == [], tab
    open_tab(visit, "Playground")
    message = visit.page.get_by_label("Message")
    message.focus()
    expect(message).to_be_in_viewport()
    visit.page.get_by_role("button", name="Keys", exact=True).click()
    dialog = visit.page.get_by_role("dialog")
    for name in ("Use these keys", "Close"):
        button = dialog.get_by_role("button", name=name)
        button.scroll_into_view_if_needed()
        expect(button).to_be_in_viewport()
    dialog.get_by_role("button", name="Close").click()


FOCUSED = """() => { const one = document.activeElement; const style = getComputedStyle(one);
  return {name: one.id || one.className || one.tagName,
          ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2}; }"""


def test_keyboard_alone_is_enough(visit_to, whole_node):
    visit = visit_to(whole_node.url)
    page = visit.page
    page.goto(visit.url)
    expect(page.get_by_label("API key: ")).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.reload()  # so that the first Tab goes to the beginning
    expect(page.get_by_text("API key", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    visited = []
    while (now := page.evaluate(FOCUSED))["name"] != "BODY":  # after the last element
        assert now["ring"], now
        assert len(visited) < 40, visited
        visited.append(now["name"])
        page.keyboard.press("Tab")
    assert visited.index("keys-open") < visited.index("tab-playground")
    assert "message" in visited, visited
    page.get_by_role("tab", name="Playground").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Figures")).to_be_focused()
    expect(page.get_by_role("tab", name="Figures")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Home")
    page.get_by_label("Message").focus()
    page.keyboard.type("Hi")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    assert page.get_by_label("Message").input_value() == "Hi\nthere"
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_have_count(2)
    opener = page.get_by_role("button", name="Copy as code")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Copy as code")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(opener).to_be_focused()


def test_nothing_moves_for_those_who_want_that(visit_to, whole_node):
    visit = visit_to(whole_node.url, reduced_motion="reduce")
    enter_keys(visit, KEY, ADMIN_KEY)
    for tab in TABS:
        open_tab(visit, tab)
        assert visit.page.evaluate("document.getAnimations().length") == 0
