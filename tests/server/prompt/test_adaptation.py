"""Every conversation, in every form that clients send, by templates that take few of them."""

import functools
import json
import re
from typing import Any

import pytest
from support.picky_templates import PICKY

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.request import to_conversation
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.prompt.conversation import Message
from mlxnode.server.prompt.templates import ChatTemplate
from mlxnode.server.prompt.tools import tool_use
from mlxnode.server.reading.validation import validate
from tests.support.notation_templates import FAMILIES
from tests.support.notation_wrapper import make_wrapper

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "qzfind",
            "description": "Qztold 天气",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {"type": "function", "function": {"name": "qzget"}},
]
MARKS = re.compile(r"Qz\w+|qzfind|qzget|77123|天气")


def system(text: str) -> dict:
    return {"role": "system", "content": text}


def developer(text: str) -> dict:
    return {"role": "developer", "content": text}


def user(text: Any) -> dict:
    return {"role": "user", "content": text}


def answer(text: Any, **fields: Any) -> dict:
    return {"role": "assistant", "content": text, **fields}


def call(
    name: str = "qzfind", arguments: Any = '{"city": "Qzcity"}', id: str = "call_1"
) -> dict:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text: Any, id: str = "call_1") -> dict:
    return {"role": "tool", "tool_call_id": id, "content": text}


def calling(*calls: dict, text: str | None = None, **fields: Any) -> dict:
    return answer(text, tool_calls=list(calls), **fields)


OTHER = call("qzget", '{"n": 77123}', "call_2")
LOOP = [user("Qzone"), calling(call()), result("Qzres")]
END = [answer("Qzans"), user("Qztwo")]
ARGUMENTS = ("", None, {"city": "Qzcity"}, '["Qzlist"]', '{"city": "Qzbroken', '"Qztext"', "7")
CASES: dict[str, list[dict]] = {
    "question": [user("Qzone")],
    "system": [system("Qzsys"), user("Qzone"), *END],
    "systems": [system("Qzsys"), developer("Qzdev"), user("Qzone")],
    "system later": [system("Qza"), user("Qzone"), answer("Qzans"), system("Qzb"), user("Qzc")],
    "system last": [user("Qzone"), system("Qzsys")],
    "system alone": [system("Qzsys")],
    "developer": [developer("Qzdev"), user("Qzone")],
    "developer later": [user("Qzone"), answer("Qzans"), developer("Qzdev"), user("Qztwo")],
    "users": [user("Qzone"), user("Qztwo"), answer("Qzans"), user("Qza"), user("Qzb")],
    "answers": [user("Qzone"), answer("Qza"), answer("Qzb"), user("Qztwo")],
    "answer first": [system("Qzsys"), answer("Qzhello"), user("Qzone")],
    "nothing said": [user("Qzone"), answer(None), user(""), answer([]), user("Qztwo")],
    "loop": LOOP,
    "loop after a system": [system("Qzsys"), *LOOP],
    "loop ended": [system("Qzsys"), *LOOP, *END],
    "loop with a name": [user("Qzone"), calling(call()), {**result("Qzres"), "name": "qzfind"}],
    "loop broken off": [*LOOP, user("Qztwo")],
    "no result": [user("Qzone"), calling(call()), user("Qztwo")],
    "two calls": [
        user("Qzone"),
        calling(call(), OTHER),
        result("Qzres"),
        result("Qzother", "call_2"),
        *END,
    ],
    "two calls, last result first": [
        user("Qzone"),
        calling(call(), OTHER),
        result("Qzother", "call_2"),
        result("Qzres"),
    ],
    "two rounds": [*LOOP, calling(OTHER), result("Qzother", "call_2"), *END, user("Qzthree")],
    "result late": [*LOOP[:2], system("Qzsys"), user("Qztwo"), LOOP[2]],
    "result too much": [*LOOP, result("Qzother", "unknown"), *END],
    "result alone": [user("Qzone"), result("Qzres", "unknown"), *END],
    "result first": [result("Qzres"), user("Qzone")],
    "result null": [user("Qzone"), calling(call()), result(None), *END],
    "result of parts": [
        user("Qzone"),
        calling(call()),
        result([{"type": "text", "text": "Qzres"}]),
    ],
    "thoughts": [user("Qzone"), calling(call(), reasoning_content="Hm"), result("Qzres")],
    "thoughts in parts": [
        user([{"type": "text", "text": "Qzone"}]),
        answer(
            [
                {"type": "thinking", "thinking": "Hm", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Qzans"},
            ]
        ),
        user("Qztwo"),
    ],
    "refusal": [user("Qzone"), answer(None, refusal="Qzno"), user("Qztwo")],
    "arguments": [
        user("Qzone"),
        *[
            message
            for number, arguments in enumerate(ARGUMENTS)
            for message in (
                calling(call(arguments=arguments, id=f"id {number}")),
                result(f"Qzres{number}", f"id {number}"),
            )
        ],
    ],
    "without ids": [
        user("Qzone"),
        answer(None, tool_calls=[{"function": {"name": "qzfind"}}]),
        {"role": "tool", "content": "Qzres"},
        *END,
    ],
    "before tools": [
        user("Qzone"),
        answer(None, function_call={"name": "qzfind", "arguments": "{}"}),
        {"role": "function", "name": "qzfind", "content": "Qzres"},
    ],
    "text for a tool": [
        user("Qzone"),
        answer(None, tool_calls=[{"id": "c", "type": "custom", "custom": {"name": "qzfind",
         "input": "Qzinput"}}]),
        result("Qzres", "c"),
    ],
}  # fmt: skip


@functools.cache
def template_of(name: str) -> ChatTemplate:
    if name in PICKY:
        return ChatTemplate(make_wrapper(PICKY[name]))
    family = FAMILIES[name]
    return ChatTemplate(make_wrapper(family.template, family.tokens))


def rendered(template: ChatTemplate, messages: list[dict], **fields: Any) -> str:
    body, _ = validate(ChatBody, {"model": "m", "messages": messages, **fields})
    conversation = to_conversation(body)
    tools = tool_use(conversation, template.notation)
    conversation = template.settle(conversation, tools)
    text, _ = template.render(conversation, tools)
    template.borders(conversation, tools, text)
    if not conversation.continues:
        # The first form was taken, not only the plainest.
        starts = conversation.starts_answer
        first = template._apply(
            conversation.messages, tools, conversation.variables, starts_answer=starts
        )
        assert text.startswith(first)
    return text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [*PICKY, *(n for n in FAMILIES if n not in PICKY)])
def test_nothing_of_a_conversation_is_lost(name, case):
    marks = set(MARKS.findall(json.dumps(CASES[case], ensure_ascii=False)))
    told = {"qzfind", "qzget", "Qztold", "天气"}
    for fields, expected in (({}, marks), ({"tools": TOOLS}, marks | told)):
        text = rendered(template_of(name), CASES[case], **fields)
        assert {mark for mark in expected if mark not in text} == set()
        assert "None" not in text and "'type'" not in text


@pytest.mark.parametrize("name", [*PICKY, *(n for n in FAMILIES if n not in PICKY)])
def test_a_text_beside_calls_is_kept(name):
    called = [user("Qzone"), calling(call(), text="Qzlook"), result("Qzres")]
    for messages in ([*called, *END], [*called, user("Qztwo")]):
        text = rendered(template_of(name), messages)
        assert text.count("Qzlook") == text.count("Qzcity") == 1


def test_gemma_gets_turns_of_user_and_model():
    messages = [system("Be kind."), user("Hi"), user("you"), *LOOP[1:], *END]
    assert rendered(template_of("gemma"), messages) == (
        "<start_of_turn>user\nBe kind.\n\nHi\n\nyou<end_of_turn>\n"
        '<start_of_turn>model\n<tool_call>\n{"name": "qzfind", "arguments": '
        '{"city": "Qzcity"}}\n</tool_call><end_of_turn>\n'
        "<start_of_turn>user\n<tool_response>\nQzres\n</tool_response><end_of_turn>\n"
        "<start_of_turn>model\nQzans<end_of_turn>\n"
        "<start_of_turn>user\nQztwo<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_system_message_stays_where_the_template_writes_it():
    template = ChatTemplate(make_wrapper(PICKY["head_only"].replace(" and loop.first", "")))
    text = rendered(template, CASES["system later"])
    assert text.index("Qzans") < text.index("<|im_start|>system\nQzb") < text.index("Qzc")
    text = rendered(template_of("head_only"), CASES["system later"])
    assert text.index("Qzans") < text.index("<|im_start|>user\nQzb") < text.index("Qzc")


def test_ids_have_nine_letters_and_belong_together():
    text = rendered(template_of("mistral"), CASES["two calls"])
    ids = re.findall(r'"id": "(\w+)"', text)
    assert len(set(ids)) == 2 and all(len(id) == 9 for id in ids)
    assert rendered(template_of("mistral"), CASES["two calls"]) == text
    kept = [user("a"), calling(call(id="abcdefgh1")), result("b", "abcdefgh1")]
    assert '"id": "abcdefgh1"' in rendered(template_of("mistral"), kept)


def test_one_call_a_message_is_followed_by_its_result():
    text = rendered(template_of("llama"), CASES["two calls, last result first"])
    places = [text.index(mark) for mark in ("qzfind", "Qzres", "qzget", "Qzother")]
    assert places == sorted(places)


@pytest.mark.parametrize("name", PICKY)
def test_a_longer_conversation_starts_like_the_shorter_one(name):
    """Prefixes are cached: what was rendered once stays as it was."""
    template = template_of(name)
    messages = [system("Qzsys"), user("Qza"), answer("Qzans"), *CASES["users"], *LOOP, *END]
    for end in (2, 4, 6):
        shorter = rendered(template, messages[:end], add_generation_prompt=False)
        longer = rendered(template, messages, add_generation_prompt=False)
        end_of_texts = [match.end() for match in MARKS.finditer(shorter)][-1]
        assert longer.startswith(shorter[:end_of_texts])


def test_a_usual_conversation_is_rendered_once(monkeypatch):
    template = template_of("head_or_error")
    rendered(template, CASES["question"])  # what the template can say is known now
    texts: list[str] = []
    render = template.renderer.render
    monkeypatch.setattr(
        template.renderer,
        "render",
        lambda *args, **options: texts.append("") or render(*args, **options),
    )
    body, _ = validate(ChatBody, {"model": "m", "messages": CASES["loop ended"]})
    template.render(to_conversation(body))
    assert len(texts) == 1


def test_an_empty_answer_that_continues_begins():
    text = rendered(
        template_of("head_only"), [user("Hi"), answer("")], continue_final_message=True
    )
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_takes_nothing_is_an_error():
    template = ChatTemplate(make_wrapper("{{ raise_exception('no') }}"))
    with pytest.raises(InvalidRequest, match="does not accept these messages: no"):
        rendered(template, CASES["question"])


def test_messages_are_not_changed():
    body, _ = validate(ChatBody, {"model": "m", "messages": CASES["two rounds"]})
    conversation = to_conversation(body)
    before: list[Message] = json.loads(json.dumps(conversation.messages))
    for name in PICKY:
        template_of(name).render(conversation)
    assert conversation.messages == before
