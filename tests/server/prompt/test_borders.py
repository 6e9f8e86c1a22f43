"""Borders against the tokens that two prompts really share, by templates of five families."""

from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pytest
from support import tiny
from support.family_templates import TEMPLATES
from tokenizers import AddedToken, Tokenizer, models

from mlxnode.server.notation.tool_use import Function
from mlxnode.server.prompt import borders
from mlxnode.server.prompt.conversation import Breakpoint, Conversation, Message
from mlxnode.server.prompt.encoding import PromptEncoder
from mlxnode.server.prompt.tokenizers import ChatPrompt, TextTokenizer
from mlxnode.server.prompt.tools import tool_use

TOOL = Function(name="look_up", description="Looks up. " * 20, param="tools")
SYSTEM: Message = {"role": "system", "content": "You answer in few words. " * 20}
NEAR = 80  # byte tokens: the headers of a message


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def answer(text: str, thought: str | None = None) -> Message:
    message: Message = {"role": "assistant", "content": text}
    return message if thought is None else {**message, "reasoning_content": thought}


def call(city: str, thought: str | None = None) -> list[Message]:
    function = {"name": "look_up", "arguments": {"city": city}}
    made = {"id": "call00001", "type": "function", "function": function}
    return [
        {**answer("", thought), "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "call00001", "name": "look_up", "content": city * 60},
    ]


CHAT = [
    SYSTEM,
    user("What is where? " * 9),
    answer("Here it is.", "Well."),
    user("And now? " * 20),
]
LOOP = [*CHAT, *call("Rome", "I look."), *call("Oslo", "I look again.")]
# The prompt, and another one that parts from it.
CASES: dict[str, tuple[list[Message], list[Message]]] = {
    "next turn": (CHAT, [*CHAT, answer("This."), user("Why?")]),
    "next turn with its thought": (CHAT, [*CHAT, answer("This.", "Hm."), user("Why?")]),
    "last question edited": (CHAT, [*CHAT[:-1], user("Who is it? " * 20)]),
    "other question after the system message": (CHAT, [SYSTEM, user("Who are you?")]),
    "call": (CHAT, [*CHAT, *call("Rome")]),
    "call with its thought": (CHAT, [*CHAT, *call("Rome", "I look.")]),
    "one more call": (LOOP, [*LOOP, *call("Bonn")]),
    "end of the calls": (LOOP, [*LOOP, answer("Both."), user("Thanks. ")]),
    "question before the calls edited": (LOOP, [*CHAT[:-1], user("Who is it? " * 20)]),
}


@pytest.fixture(scope="module")
def tokenizer_of(tmp_path_factory) -> Callable[[str], TextTokenizer]:
    folders: dict[str, Path] = {}

    def make(template: str) -> TextTokenizer:
        if template not in folders:
            folders[template] = tmp_path_factory.mktemp("tokenizer")
            tiny.make_tokenizer(folders[template], template)
        return TextTokenizer(folders[template])

    return make


@pytest.fixture(scope="module")
def families(tokenizer_of) -> dict[str, TextTokenizer]:
    return {family: tokenizer_of(template) for family, template in TEMPLATES.items()}


async def encode(tokenizer: TextTokenizer, messages: list[Message]) -> ChatPrompt:
    conversation = Conversation(messages, functions=[TOOL])
    tools = tool_use(conversation, tokenizer.chat_template.notation)
    return tokenizer.chat_prompt(conversation, tools)


def num_common(a: list[int], b: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


# Without a syntax of calls, the results of tools are questions: those before are not the last.
PLAIN = ("gemma3_text", "gpt_oss")
KNOWN = [
    (family, case)
    for family in TEMPLATES
    for case in CASES
    if not (family in PLAIN and case == "question before the calls edited")
]


@pytest.mark.parametrize(("family", "case"), KNOWN)
async def test_a_border_is_where_the_prompts_part(families, family, case):
    prompt, other = CASES[case]
    tokenizer = families[family]
    ids, _, found = await encode(tokenizer, prompt)
    common = num_common(ids, (await encode(tokenizer, other)).ids)
    # The engine keeps the end of the prompt itself.
    reached = max(border for border in [0, *found, len(ids)] if border <= common)
    assert common - NEAR <= reached <= common
    assert found == sorted(set(found)) and len(found) <= 4
    assert all(0 < border < len(ids) for border in found)


@pytest.mark.parametrize("family", TEMPLATES)
async def test_borders_are_the_same_when_they_are_known(tokenizer_of, family):
    tokenizer = tokenizer_of(TEMPLATES[family])
    for messages in (CHAT, LOOP):
        cold = (await encode(tokenizer_of(TEMPLATES[family]), messages)).borders
        assert (await encode(tokenizer, messages)).borders == cold
        assert (await encode(tokenizer, messages)).borders == cold


async def test_a_long_conversation_is_rendered_few_times(tokenizer_of, monkeypatch):
    tokenizer = tokenizer_of(TEMPLATES["qwen3_5"])
    rendered = []
    apply = tokenizer.chat_template._apply
    monkeypatch.setattr(
        tokenizer.chat_template,
        "_apply",
        lambda *args, **options: rendered.append(1) or apply(*args, **options),
    )
    messages = [SYSTEM]
    counts = []
    for turn in range(12):
        messages = [*messages, user(f"Question {turn} " * 9)]
        await encode(tokenizer, messages)
        counts.append(len(rendered))
        rendered.clear()
        messages = [*messages, answer(f"Answer {turn} " * 9)]
    assert max(counts) <= 5 and max(counts[1:]) <= 3  # with the prompt itself


async def test_a_known_border_is_not_taken_for_another_text(tokenizer_of):
    """Tools that move to the last question, as Mistral's, change the text before a border."""
    moving = (
        "{% for m in messages %}{% if loop.last %}{{ 'TOOLS ' * 30 }}{% endif %}"
        "{{ '[' + m.role + ']' + m.content }}{% endfor %}"
    )
    tokenizer = tokenizer_of(moving)
    first, second = (
        [user("one " * 40)],
        [user("one " * 40), answer("two " * 40), user("three " * 9)],
    )
    await encode(tokenizer, first)
    ids, _, found = await encode(tokenizer, second)
    other = await encode(tokenizer, [*second, answer("four"), user("five")])
    common = num_common(ids, other.ids)
    assert [border for border in found if border <= common][-1] >= common - NEAR
    assert found == (await encode(tokenizer_of(moving), second)).borders


async def test_a_template_that_refuses_other_conversations_gives_no_border(tokenizer_of):
    picky = (
        "{% if messages | length > 1 or messages[0].content | length < 9 %}"
        "{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    )
    question = Conversation([user("a long question " * 9)])
    ids, _, found = tokenizer_of(picky).chat_prompt(question)
    assert ids and not found


@pytest.mark.parametrize(
    "text", ["", "x", borders._PROBE, "\n\n", "é\U0001f44d\U0001f3fd" * 40, "<think>" * 40]
)
@pytest.mark.parametrize("family", TEMPLATES)
async def test_borders_of_any_text_lie_in_the_prompt(families, family, text):
    tokenizer = families[family]
    for messages in (
        [user(text)],
        [{"role": "system", "content": text}, user(text)],
        [user(text), answer(text, text)],
        [user(text), *call(text)],
    ):
        ids, _, found = await encode(tokenizer, messages)
        assert all(0 < border < len(ids) for border in found)
        assert found == sorted(set(found))


def test_a_token_that_the_next_text_changes_is_after_the_border():
    """Two line feeds are one token here: a border between them is before that token."""
    inner = Tokenizer(models.BPE(vocab={"a": 0, "\n": 1, "\n\n": 2}, merges=[("\n", "\n")]))
    inner.add_special_tokens([AddedToken("<t>")])
    text = "a" * 20 + "<t>" + "a\n" + "a"
    encoding = inner.encode(text)
    border = borders.Border(len(text) - 1, "\na")
    assert encoding.ids[20:] == [3, 0, 1, 0]
    added = frozenset(inner.get_added_tokens_decoder())
    encode = PromptEncoder(inner, {}).encode
    assert borders.in_tokens([border], text, encoding, encode, added) == [22]
    kept = borders.Border(len(text) - 1, "<t>")
    assert borders.in_tokens([kept], text, encoding, encode, added) == [23]
    # Without an added token nearby, the last token is given up in any case.
    assert borders.in_tokens([kept], text, encoding, encode, frozenset()) == [22]


# --- breakpoints: where the client says that other prompts may part ---------------------------


def marked(*breakpoints: Breakpoint) -> Conversation:
    return Conversation(LOOP, functions=[TOOL], breakpoints=breakpoints)


def prompt_of(tokenizer: TextTokenizer, conversation: Conversation) -> ChatPrompt:
    tools = tool_use(conversation, tokenizer.chat_template.notation)
    return tokenizer.chat_prompt(conversation, tools)


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize(("index", "length"), [(-8, 200), (-7, 60), (-5, 100), (-1, 120)])
def test_a_breakpoint_within_a_message_is_a_border(families, family, index, length):
    tokenizer = families[family]
    head = LOOP[index]["content"][:length]
    plain = prompt_of(tokenizer, marked())
    found = prompt_of(tokenizer, marked(Breakpoint(index, head)))
    assert found.ids == plain.ids, "a mark changes no token"
    other = [dict(message) for message in LOOP]
    other[index]["content"] = head + "\ua66d and so on"
    parted = prompt_of(tokenizer, Conversation(other, functions=[TOOL]))
    common = sum(
        1
        for _ in takewhile(
            lambda pair: pair[0] == pair[1], zip(plain.ids, parted.ids, strict=False)
        )
    )
    assert any(common - 2 <= border <= common for border in found.borders)


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_breakpoint_at_the_end_of_a_message_is_a_border(families, family):
    tokenizer = families[family]
    place = Breakpoint(-7, LOOP[-7]["content"])  # the first question, whole
    found = prompt_of(tokenizer, marked(place)).borders
    parted = prompt_of(tokenizer, Conversation([*LOOP[:2], user("Who?")], functions=[TOOL]))
    ids = prompt_of(tokenizer, marked()).ids
    common = sum(
        1
        for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, parted.ids, strict=False))
    )
    assert any(common - NEAR <= border <= common for border in found)


def test_the_end_of_the_last_message_is_no_breakpoint(families):
    for tokenizer in families.values():
        place = Breakpoint(-1, LOOP[-1]["content"])
        plain, found = (prompt_of(tokenizer, c) for c in (marked(), marked(place)))
        assert found.borders == plain.borders


def test_a_breakpoint_is_rendered_once_for_a_conversation():
    renderings = []

    def render(messages: list[Message]) -> str:
        renderings.append(messages)
        return "|".join(str(message["content"]) for message in messages)

    finder = borders.BorderFinder()
    for messages in (LOOP, [*LOOP, answer("This."), user("Why?")]):
        places = [Breakpoint(-len(messages), SYSTEM["content"][:50])]
        renderings.clear()
        finder.find(
            render(messages),
            messages,
            render,
            variables="",
            function=None,
            breakpoints=places,
        )
    cut = [messages for messages in renderings if len(messages) == 1]
    assert cut == [], "the start of the system message is known at the second turn"
