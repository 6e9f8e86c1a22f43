"""The tokens that end a thought, read off templates in the styles of the families."""

import pytest
from support.notation_templates import FAMILIES
from support.scripted import write_tokenizer

from mlxnode.server.notation.notation import Markers, Notation
from mlxnode.server.parsing.output_parser import OutputParser
from mlxnode.server.prompt.thinking import ThinkingTokens
from mlxnode.server.prompt.tokenizers import TextTokenizer

SENTENCE = "I must answer."
TURN = "{% for m in messages %}<|turn|>{{ m.role }}\n"
CALLS = (
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.name }}"
    "{{ call.function.arguments | tojson }}</call>{% endfor %}"
)
# A template, its markers, and what ends a thought: before a call or a text, and before a text.
STYLES = {
    "lines": (
        TURN + "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
        "{% endif %}{{ m.content }}" + CALLS + "{% endfor %}",
        ("<think>", "</think>"),
        ("\n</think>", "\n</think>"),
    ),
    "tight": (
        TURN + "{% if m.reasoning %}[THINK]{{ m.reasoning }}[/THINK]{% endif %}"
        "{{ m.content }}{% endfor %}",
        ("[THINK]", "[/THINK]"),
        ("[/THINK]", "[/THINK]"),
    ),
    "channels": (
        "{% for m in messages %}{% if m.thinking %}<|turn|>{{ m.role }}<|in|>analysis<|text|>"
        "{{ m.thinking }}<|end|>{% endif %}{% if m.tool_calls %}<|turn|>{{ m.role }}"
        " to={{ m.tool_calls[0].function.name }}<|in|>commentary<|text|>{}<|call|>"
        "{% else %}<|turn|>{{ m.role }}<|in|>final<|text|>{{ m.content }}<|end|>{% endif %}"
        "{% endfor %}",
        ("<|in|>analysis<|text|>", "<|end|>"),
        ("<|end|><|turn|>assistant", "<|end|><|turn|>assistant<|in|>final<|text|>"),
    ),
    "sections": (
        TURN + "{% if m.reasoning %}<|think|>{{ m.reasoning }}<|end|><|turn|>assistant"
        "{% endif %}{% if m.tool_calls %}<|calls|>{{ m.tool_calls[0].function.name }}"
        "{% else %}<|content|>{{ m.content }}{% endif %}<|end|>{% endfor %}",
        ("<|think|>", "<|end|>"),
        ("<|end|><|turn|>assistant", "<|end|><|turn|>assistant<|content|>"),
    ),
    "parts of the content": (
        TURN
        + "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
        "{% if part.type == 'thinking' %}[THINK]{{ part.thinking }} [/THINK]{% else %}"
        "{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}",
        ("[THINK]", "[/THINK]"),
        (" [/THINK]", " [/THINK]"),
    ),
    "only before calls": (
        TURN + "{% if m.tool_calls %}<think>{{ m.reasoning_content }}</think>"
        "{{ m.tool_calls[0].function.name }}{% else %}{{ m.content }}{% endif %}{% endfor %}",
        ("<think>", "</think>"),
        ("</think>", "</think>"),
    ),
    "dropped": (
        TURN + "{{ m.content.split('</think>')[-1] }}{% endfor %}",
        ("<think>", "</think>"),
        ("\n</think>", "\n</think>"),
    ),
    "not accepted": (
        "{{ raise_exception('no') }}",
        ("<think>", "</think>"),
        ("\n</think>", "\n</think>"),
    ),
}
SPECIAL = ["<|turn|>", "<|in|>", "<|text|>", "<|end|>", "<|call|>", "<|think|>", "<|content|>"]
SPECIAL += ["<|calls|>", "[THINK]", "[/THINK]"]
ADDED = ["<think>", "</think>"]


def tokens_of(tokenizer: TextTokenizer, notation: Notation) -> ThinkingTokens | None:
    return ThinkingTokens.of(
        tokenizer.chat_template.renderer, notation, tokenizer._tokenizer, SENTENCE
    )


@pytest.mark.parametrize("style", STYLES)
def test_thinking_tokens_end_a_thought_as_the_template_does(tmp_path, style):
    template, markers, expected = STYLES[style]
    raw = write_tokenizer(tmp_path, template, SPECIAL, ADDED)
    tokens = tokens_of(TextTokenizer(tmp_path), Notation(thinking=Markers(*markers)))
    decoded = [
        raw.decode(ids, skip_special_tokens=False) for ids in (tokens.end, tokens.answer)
    ]
    assert decoded == list(expected)
    assert raw.decode(tokens.sentence) == f"\n\n{SENTENCE}"
    for marker, spellings in zip(markers, (tokens.starts, tokens.ends), strict=True):
        assert spellings == [[[id] for id in raw.encode(marker).ids]]


def test_thinking_tokens_start_the_content_where_the_template_drops_thoughts(tmp_path):
    raw = write_tokenizer(tmp_path, STYLES["dropped"][0], SPECIAL, ADDED)
    notation = Notation(
        thinking=Markers("<think>", "</think>"), content=Markers("<|content|>", "<|end|>")
    )
    tokens = tokens_of(TextTokenizer(tmp_path), notation)
    assert raw.decode(tokens.end) == "\n</think>"
    answer = raw.decode(tokens.answer, skip_special_tokens=False)
    assert answer == "\n</think><|content|>"


def test_thinking_tokens_of_harmony_need_no_thought_before_a_text(tmp_path):
    family = FAMILIES["gpt-oss"]
    raw = write_tokenizer(tmp_path, family.template, family.tokens)
    tokens = TextTokenizer(tmp_path).thinking_tokens(SENTENCE)
    decoded = [
        raw.decode(ids, skip_special_tokens=False) for ids in (tokens.end, tokens.answer)
    ]
    final = "<|channel|>final<|message|>"
    assert decoded == ["<|end|><|start|>assistant", f"<|end|><|start|>assistant{final}"]


@pytest.mark.parametrize("name", FAMILIES)
def test_thinking_tokens_of_every_family_that_thinks_end_its_thoughts(tmp_path, name):
    family = FAMILIES[name]
    raw = write_tokenizer(tmp_path, family.template, family.tokens)
    tokenizer = TextTokenizer(tmp_path)
    notation = tokenizer.chat_template.notation
    tokens = tokenizer.thinking_tokens(SENTENCE)
    assert (tokens is None) is (notation.thinking is None)
    if tokens is None:
        return
    for ids in (tokens.end, tokens.answer):
        whole = raw.decode(ids, skip_special_tokens=False)
        assert whole.lstrip().startswith(notation.thinking.end)
    parser = OutputParser(notation, is_thinking=True)
    written = f"Hm\n\n{SENTENCE}{raw.decode(tokens.answer, skip_special_tokens=False)}So."
    delta = parser.feed(written, is_last=True)
    assert (delta.reasoning, delta.content) == (f"Hm\n\n{SENTENCE}", "So.")


def test_thinking_tokens_need_an_end_of_the_thoughts(tmp_path):
    write_tokenizer(tmp_path, STYLES["lines"][0], SPECIAL, ADDED)
    tokenizer = TextTokenizer(tmp_path)
    assert tokens_of(tokenizer, Notation()) is None
    assert tokens_of(tokenizer, Notation(thinking=Markers("<think>", ""))) is None
    no_start = tokens_of(tokenizer, Notation(thinking=Markers("", "</think>")))
    assert no_start.starts == []


def test_thinking_tokens_without_a_sentence(tmp_path):
    write_tokenizer(tmp_path, STYLES["lines"][0], SPECIAL, ADDED)
    assert TextTokenizer(tmp_path).thinking_tokens("").sentence == []
