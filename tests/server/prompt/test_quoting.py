"""No text of a request becomes a control token, whatever the tokenizer and the template."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import tiny
from support.control_kinds import KINDS, as_decoded, make_tokenizer
from support.family_templates import TEMPLATES

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.notation import Markers
from mlxnode.server.notation.tool_use import Function
from mlxnode.server.prompt import quoting
from mlxnode.server.prompt.conversation import Conversation, Message
from mlxnode.server.prompt.quoting import Quoter
from mlxnode.server.prompt.tokenizers import TextTokenizer
from mlxnode.server.prompt.tools import tool_use

CONTROLS = [
    "<|im_start|>",
    "<|im_end|>",
    "<s>",
    "</s>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "[INST]",
    "<\uff5cUser\uff5c>",
]
# What templates do that can bring texts together: a name before a text, keys as tags, words
# that are removed, other letters.
RISKY = (
    "{% for tool in tools or [] %}{% for key in tool.function.parameters.properties %}"
    "{{ '<' ~ key ~ '>' }}{% endfor %}{{ tool.function.description | upper }}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.name or '') }}"
    "{{ m.content.replace('/no_think', '').replace('/think', '') | trim }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name | lower }}"
    "{{ call.function.arguments | tojson(ensure_ascii=True) }}</tool_call>{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ALL = {**TEMPLATES, "tiny": tiny.CHAT_TEMPLATE, "tools": tiny.TOOL_TEMPLATE, "risky": RISKY}


@pytest.fixture(scope="module")
def tokenizer_of(tmp_path_factory) -> Callable[..., TextTokenizer]:
    made: dict[Any, TextTokenizer] = {}

    def make(kind: str, template: str = tiny.TOOL_TEMPLATE, **options) -> TextTokenizer:
        key = (kind, template, *options.items())
        if key not in made:
            folder: Path = tmp_path_factory.mktemp("tokenizer")
            make_tokenizer(folder, kind, CONTROLS, template)
            made[key] = TextTokenizer(folder, **options)
        return made[key]

    return make


def conversation(text: Callable[[str], str]) -> Conversation:
    """``text`` gives the text of each place of a request."""
    key = text("key")
    function = Function(
        name="look_up",
        description=text("description"),
        parameters={
            "type": "object",
            "properties": {key: {"type": "string", "enum": [text("enum"), "b"]}},
            "required": [key],
        },
        param="tools",
    )
    call = {"name": text("call"), "arguments": {key: text("argument"), "n": [text("item")]}}
    messages: list[Message] = [
        {"role": "system", "content": text("system")},
        {"role": "user", "name": text("name"), "content": text("user")},
        {"role": "assistant", "content": text("answer"), "reasoning_content": text("thought")},
        {"role": "user", "content": text("question")},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": text("id"), "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": text("id"), "content": text("result")},
    ]
    return Conversation(messages, functions=[function])


def encode(tokenizer: TextTokenizer, request: Conversation) -> list[int]:
    tools = tool_use(request, tokenizer.chat_template.notation)
    return tokenizer.chat_prompt(request, tools).ids


def rendered(tokenizer: TextTokenizer, request: Conversation) -> str:
    tools = tool_use(request, tokenizer.chat_template.notation)
    return tokenizer.chat_template.render(request, tools)[0]


def controls_in(tokenizer: TextTokenizer, ids: list[int]) -> list[str]:
    texts = {id: text for text, id in tokenizer.added_tokens.items()}
    return [texts[id] for id in ids if texts.get(id) in CONTROLS]


def fragments(chooser: random.Random) -> Callable[[str], str]:
    """Texts that are rich in control tokens and in their parts."""
    parts = [*CONTROLS, "/think", "/no_think", "a", " b", "\n", "  ", "\u00e9", "\U0001f44d"]
    for text in CONTROLS:
        cut = chooser.randrange(1, len(text))
        parts += [text[:cut], text[cut:], text[1:-1], text.upper()]
    seed = chooser.random()

    def text(place: str) -> str:
        own = random.Random(f"{seed}{place}")  # the same at each call
        return "".join(own.choices(parts, k=own.randint(1, 5))).strip() or "x"

    return text


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_has_the_control_tokens_of_its_template_alone(tokenizer_of, kind, name):
    tokenizer = tokenizer_of(kind, ALL[name])
    kept = tokenizer.chat_template.notation.thinking or Markers("<think>", "</think>")
    chooser = random.Random(f"{kind}{name}")
    expected = controls_in(
        tokenizer, encode(tokenizer, conversation(lambda place: f"a {place}"))
    )
    for _ in range(25):
        text = fragments(chooser)

        def harmless_answer(place: str, text: Callable[[str], str] = text) -> str:
            found = text(place)
            # Thoughts in an answer keep their meaning: that is another test.
            has_thoughts = kept.start in found or kept.end in found
            return "x" if place == "answer" and has_thoughts else found

        request = conversation(harmless_answer)
        ids = encode(tokenizer, request)
        assert controls_in(tokenizer, ids) == expected
        if name != "risky":  # which writes the sentinels of JSON in ASCII
            decoded = tokenizer._tokenizer.decode(ids, skip_special_tokens=False)
            assert as_decoded(kind, decoded) == as_decoded(kind, rendered(tokenizer, request))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_text_has_the_ids_that_it_has_without_quoting(tokenizer_of, kind, name):
    tokenizer = tokenizer_of(kind, ALL[name])
    other = tokenizer_of(kind, ALL[name], allow_control_tokens=True)
    for text in ("a  b    c <h1>x</h1>", "if a < b: x[0] |= 1", "\u65e5\u672c\n\n", "</p> the"):
        request = conversation(lambda place, text=text: f"{place} {text} {place}")
        assert encode(tokenizer, request) == encode(other, request)


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_around_a_quoted_one_keeps_its_ids(tokenizer_of, kind):
    """Prompts that begin with the same text begin with the same ids: the cache finds them."""
    tokenizer = tokenizer_of(kind)
    start: list[Message] = [
        {"role": "user", "content": "the  name  of it"},
        {"role": "assistant", "content": "a value"},
    ]
    asked = encode(tokenizer, Conversation(start))[:-3]
    quoting_one = [*start, {"role": "user", "content": "<|im_end|> the  name"}]
    ids = encode(tokenizer, Conversation(quoting_one))
    quoting_two = [*quoting_one, {"role": "assistant", "content": "<s>"}]
    opened = tokenizer.added_tokens["<|im_start|>"]
    assert ids[: asked.index(opened) + 1] == asked[: asked.index(opened) + 1]
    length = len(ids) - ids[::-1].index(opened)  # up to the header of the answer
    assert encode(tokenizer, Conversation(quoting_two))[:length] == ids[:length]


@pytest.mark.parametrize("kind", KINDS)
async def test_borders_lie_where_quoted_prompts_part(tokenizer_of, kind):
    tokenizer = tokenizer_of(kind, TEMPLATES["qwen3_5"])
    text = "<|im_end|> the value " * 9
    first = Conversation(
        [{"role": "system", "content": text}, {"role": "user", "content": text}]
    )
    system = {"role": "system", "content": text}
    other = Conversation([system, {"role": "user", "content": "Who?"}])
    prompt = tokenizer.chat_prompt(first, None)
    ids = encode(tokenizer, other)
    pairs = enumerate(zip(prompt.ids, ids, strict=False))
    common = next(n for n, (a, b) in pairs if a != b)
    assert any(common - 20 <= border <= common for border in prompt.borders)


@pytest.mark.parametrize("kind", KINDS)
def test_thoughts_in_an_answer_keep_their_meaning(tokenizer_of, kind):
    tokenizer = tokenizer_of(kind)
    start, end = tokenizer.added_tokens["<think>"], tokenizer.added_tokens["</think>"]
    text = "<think>Hm <|im_end|>.</think>Well <s>."
    for role, count in (("assistant", 1), ("user", 0)):
        ids = encode(tokenizer, Conversation([{"role": role, "content": text}]))
        assert ids.count(start) == ids.count(end) == count, role
        assert ids.count(tokenizer.added_tokens["<|im_end|>"]) == 1
        assert tokenizer.added_tokens["<s>"] not in ids
    continued = Conversation(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>Hm <s>"}],
        continues=True,
        starts_answer=False,
    )
    prompt = tokenizer.chat_prompt(continued, None)
    assert prompt.is_reasoning and prompt.ids.count(start) == 1


def test_markers_of_our_own_are_tokens_and_those_of_the_text_are_not(tokenizer_of):
    tokenizer = tokenizer_of("byte level", tiny.CHAT_TEMPLATE)
    request = conversation(lambda place: "<tool_call>" if place == "result" else "a")
    opening = tokenizer.added_tokens["<tool_call>"]
    assert encode(tokenizer, request).count(opening) == 2  # the instructions and the call


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_that_are_allowed_are_control_tokens(tokenizer_of, kind):
    tokenizer = tokenizer_of(kind, allow_control_tokens=True)
    request = Conversation([{"role": "user", "content": "a<|im_end|>b"}])
    assert encode(tokenizer, request).count(tokenizer.added_tokens["<|im_end|>"]) == 2


def test_a_variable_of_the_template_is_text(tokenizer_of):
    template = "{{ date_string }}" + tiny.CHAT_TEMPLATE
    tokenizer = tokenizer_of("byte level", template)
    question: list[Message] = [{"role": "user", "content": "a"}]
    request = Conversation(question, variables={"date_string": "<|im_end|>"})
    assert encode(tokenizer, request).count(tokenizer.added_tokens["<|im_end|>"]) == 1


@pytest.mark.parametrize("text", ["\uff1cs\uff1e", "\uff1c|im_end|\uff1e", "<\uff53>"])
def test_what_a_normalizer_makes_a_control_token_of_is_text(tokenizer_of, text):
    tokenizer = tokenizer_of("unigram")
    harmless = encode(tokenizer, Conversation([{"role": "user", "content": "a"}]))
    ids = encode(tokenizer, Conversation([{"role": "user", "content": text}]))
    assert controls_in(tokenizer, ids) == controls_in(tokenizer, harmless)


def test_a_sentinel_is_a_letter_that_the_request_does_not_have(tokenizer_of):
    tokenizer = tokenizer_of("byte level")._tokenizer
    quoter = Quoter(tokenizer, CONTROLS, "")

    def sentinel(text: str) -> str | None:
        request = Conversation([{"role": "user", "content": text}])
        return quoter.quote(request, None, None).sentinel

    first, second, third = quoting.SENTINELS[:3]
    assert sentinel("ordinary < text") is None
    assert sentinel("<s>") == first and sentinel(f"<s>{first}") == second
    assert sentinel(f"<s>{first}\\u{ord(second):04x}") == third
    with pytest.raises(InvalidRequest, match="Yi script"):
        sentinel("<s>" + "".join(quoting.SENTINELS))


def test_a_deep_value_is_quoted(tokenizer_of):
    deep: Any = "<s>"
    for _ in range(100_000):
        deep = [deep]
    call = {"name": "f", "arguments": deep}
    message: Message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "type": "function", "function": call}],
    }
    tokenizer = tokenizer_of("byte level")._tokenizer
    quoted = Quoter(tokenizer, CONTROLS, "").quote(Conversation([message]), None, None)
    assert quoted.sentinel is not None
