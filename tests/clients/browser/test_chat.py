"""The playground: answers as they come, what the page sends, tools, reasoning, Markdown."""

import json

import pytest
from clients.browser.actions import ask, chat, finished
from playwright.sync_api import expect

from mlxnode.messages.data import Abort, Generate

pytestmark = pytest.mark.clients
# The first words of a model that may think are held until they are known to be no thoughts.
DECIDED = "<think></think>"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
MARKDOWN = """# Colours

Some **bold**, some *leaning* and some `inline` text.

- one
- two
  - deeper

1. first
2. second

> quoted

| a | b |
|---|---|
| 1 | 2 |

```python
def add(a, b):
    return a + b  # **not bold**
```

See [the site](https://example.org/a?b=1&c=2).
"""


def sent(visit) -> list[dict]:
    """The bodies of the requests for answers."""
    return [one.post_data_json for one in visit.requests if "completions" in one.url]


def test_answer_is_shown_as_it_comes(visit, scripted):
    engine = scripted.engine
    engine.is_silent = True
    answer = ask(visit, "Hi")
    uid = engine.next(Generate).uid
    expect(answer).to_have_attribute("aria-busy", "true")
    engine.update(uid, f"{DECIDED}The first")
    expect(answer).to_contain_text("The first")
    expect(answer).not_to_contain_text("second")
    engine.update(uid, " and the second.")
    expect(answer).to_contain_text("The first and the second.")
    engine.update(uid, [], "stop")
    expect(finished(answer)).to_contain_text("28 tokens")
    expect(visit.page.locator("#say")).to_contain_text("The first and the second.")
    expect(visit.page.get_by_label("Message")).to_have_value("")


def test_stop_ends_the_work_of_the_engine(visit, scripted):
    engine = scripted.engine
    engine.is_silent = True
    answer = ask(visit, "Write for ever")
    uid = engine.next(Generate).uid
    engine.update(uid, f"{DECIDED}Once upon a time")
    expect(answer).to_contain_text("Once upon")
    visit.page.get_by_role("button", name="Stop").click()
    assert engine.next(Abort).uid == uid
    expect(finished(answer)).to_contain_text("stopped")
    expect(answer).to_contain_text("Once upon a time")
    expect(visit.page.get_by_role("button", name="Send", exact=True)).to_be_enabled()
    engine.is_silent = False
    expect(chat(visit, "And now")).to_contain_text("Hello!")
    assert [one["role"] for one in sent(visit)[-1]["messages"]] == ["user", "assistant", "user"]


def test_stop_before_the_first_token(visit, scripted):
    scripted.engine.is_silent = True
    answer = ask(visit, "Think long")
    uid = scripted.engine.next(Generate).uid
    visit.page.get_by_role("button", name="Stop").click()
    assert scripted.engine.next(Abort).uid == uid
    finished(answer)


def test_regenerate_asks_the_same_again(visit, scripted):
    scripted.engine.answer = "One."
    chat(visit, "First question")
    scripted.engine.answer = "Two."
    chat(visit, "Second question")
    scripted.engine.answer = "Three."
    visit.page.get_by_role("button", name="Regenerate").click()
    log = visit.page.get_by_role("group", name="Conversation")
    expect(log).to_contain_text("Three.")
    expect(log.get_by_role("article")).to_have_count(4)
    expect(log).not_to_contain_text("Two.")
    last, before = sent(visit)[-1], sent(visit)[-2]
    assert last["messages"] == before["messages"]
    visit.page.get_by_role("button", name="Clear").click()
    expect(log.get_by_role("article")).to_have_count(0)
    chat(visit, "Anew")
    assert [one["content"] for one in sent(visit)[-1]["messages"]] == ["Anew"]


def test_parameters_reach_the_engine(visit, scripted):
    page = visit.page
    page.get_by_text("System prompt, parameters, tools").click()
    page.get_by_label("System prompt").fill("Speak Latin.")
    for name, value in (
        ("Temperature", "0.25"),
        ("Top p", "0.5"),
        ("Max tokens", "3"),
        ("Seed", "42"),
    ):
        page.get_by_label(name).fill(value)
    page.get_by_label("Reasoning effort").select_option("none")
    answer = chat(visit, "Hi")
    expect(answer).to_contain_text("Hel")
    expect(answer).to_contain_text("length")
    [body] = sent(visit)
    assert body["messages"][0] == {"role": "system", "content": "Speak Latin."}
    assert body["reasoning_effort"] == "none"
    work = scripted.engine.next(Generate)
    assert work.max_tokens == 3
    sampling = work.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.25, 0.5, 42)
    assert "Speak Latin." in scripted.engine.text(work.prompt)
    page.get_by_label("Response format").select_option("json_schema")
    page.locator("#schema").fill('{"type": "object"')
    page.get_by_label("Message").fill("Hi")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="JSON schema")).to_be_visible()
    page.locator("#schema").fill('{"type": "object"}')
    page.get_by_role("button", name="Regenerate").click()
    finished(page.get_by_role("article").last)
    assert sent(visit)[-1]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_values_out_of_range_are_told_before_anything_is_sent(visit):
    page = visit.page
    page.get_by_text("System prompt, parameters, tools").click()
    page.get_by_label("Temperature").fill("9")
    page.get_by_label("Message").fill("Hi")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="temperature")).to_be_visible()
    assert sent(visit) == []


def test_calls_are_shown_as_they_come_and_results_go_back(visit, scripted):
    engine = scripted.engine
    engine.is_silent = True
    page = visit.page
    page.get_by_text("System prompt, parameters, tools").click()
    page.get_by_label("Tools (JSON").fill(json.dumps(TOOLS))
    answer = ask(visit, "How is Rome?")
    uid = engine.next(Generate).uid
    engine.update(uid, DECIDED + CALL)
    expect(answer).to_contain_text("Calls weather")
    expect(answer).to_have_attribute("aria-busy", "true")
    expect(answer.get_by_role("button", name="Send results")).to_have_count(0)
    engine.update(uid, CALL.replace("Rome", "Oslo"))
    expect(answer).to_contain_text("Oslo")
    engine.update(uid, [], "stop")
    finished(answer)
    shown = [json.loads(one) for one in answer.locator(".call pre").all_inner_texts()]
    assert shown == [{"city": "Rome"}, {"city": "Oslo"}]
    answer.get_by_label("Result of weather").first.fill('{"sky": "blue"}')
    answer.get_by_label("Result of weather").last.fill("snow")
    engine.is_silent = False
    engine.answer = "Rome is blue."
    answer.get_by_role("button", name="Send results").click()
    expect(page.get_by_role("article").last).to_contain_text("Rome is blue.")
    calling, *results = sent(visit)[-1]["messages"][-3:]
    ids = [call["id"] for call in calling["tool_calls"]]
    assert [one["tool_call_id"] for one in results] == ids
    assert [one["content"] for one in results] == ['{"sky": "blue"}', "snow"]
    assert '{"sky": "blue"}' in engine.text(engine.next(Generate).prompt)


def test_tools_that_are_no_json_are_told(visit):
    page = visit.page
    page.get_by_text("System prompt, parameters, tools").click()
    page.get_by_label("Tools (JSON").fill("[{]")
    page.get_by_label("Message").fill("Hi")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="Tools")).to_be_visible()
    assert sent(visit) == []


def test_reasoning_is_folded(visit, scripted):
    scripted.engine.answer = "<think>Rome is in Italy.</think>It is warm."
    answer = chat(visit, "Hi")
    details = answer.get_by_role("group")
    expect(answer.get_by_text("It is warm.")).to_be_visible()
    thought = answer.get_by_text("Rome is in Italy.")
    expect(thought).to_be_hidden()
    details.get_by_text("Reasoning").click()
    expect(thought).to_be_visible()


def test_markdown_becomes_elements(visit, scripted):
    scripted.engine.answer = MARKDOWN
    answer = chat(visit, "Hi")
    expect(answer.get_by_role("heading", name="Colours")).to_be_visible()
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.locator("em")).to_have_text("leaning")
    expect(answer.get_by_role("listitem")).to_have_count(5)
    expect(answer.locator("blockquote")).to_have_text("quoted")
    expect(answer.get_by_role("cell")).to_have_text(["1", "2"])
    expect(answer.locator("pre code")).to_have_text(
        "def add(a, b):\n    return a + b  # **not bold**"
    )
    link = answer.get_by_role("link")
    expect(link).to_have_attribute("href", "https://example.org/a?b=1&c=2")
    assert {"noopener", "noreferrer"} <= set(link.get_attribute("rel").split())


def test_errors_of_the_node_are_shown(visit, scripted):
    visit.page.get_by_text("System prompt, parameters, tools").click()
    visit.page.get_by_label("Tools (JSON").fill('{"type": "function"}')
    answer = ask(visit, "Hi")
    expect(answer.get_by_role("alert")).to_contain_text("tools")
    visit.provoked.append("400")


def test_completion_models_continue_a_text(visit, scripted):
    visit.page.locator("#model").select_option("tiny-text")
    expect(chat(visit, "Once")).to_contain_text("Hello!")
    assert sent(visit)[-1]["prompt"] == "Once"
