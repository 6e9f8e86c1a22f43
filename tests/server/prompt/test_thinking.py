"""The tokens that end a thought, read off templates in the styles of the families."""

import json

import pytest
from support.scripted import write_tokenizer

from mlxnode.server.notation.notation import Markers, Notation
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
    def encode(text: str):
        return tokenizer._tokenizer.encode(text, add_special_tokens=False)

    return ThinkingTokens.of(tokenizer._wrapper, notation, encode, SENTENCE)


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
        assert spellings == [raw.encode(marker).ids]


def test_thinking_tokens_start_the_content_where_the_template_drops_thoughts(tmp_path):
    raw = write_tokenizer(tmp_path, STYLES["dropped"][0], SPECIAL, ADDED)
    notation = Notation(
        thinking=Markers("<think>", "</think>"), content=Markers("<|content|>", "<|end|>")
    )
    tokens = tokens_of(TextTokenizer(tmp_path), notation)
    assert raw.decode(tokens.end) == "\n</think>"
    answer = raw.decode(tokens.answer, skip_special_tokens=False)
    assert answer == "\n</think><|content|>"


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


@pytest.mark.parametrize(
    "text",
    ["a</think>b", "So.</think>\n\nb", 'x = "y"</think>\nb', "a\n</think>{", "!</think>"],
)
def test_thinking_tokens_know_a_marker_that_is_spelled_with_other_tokens(tmp_path, text):
    """As byte-level vocabularies do: signs join with signs and line breaks at both ends."""
    raw = write_merging_tokenizer(tmp_path)
    assert len(raw.encode("</think>").ids) == 3
    tokens = tokens_of(TextTokenizer(tmp_path), Notation(thinking=Markers("", "</think>")))
    ids = raw.encode(text).ids
    found = [
        end
        for end in range(1, len(ids) + 1)
        if any(ids[:end][-len(spelling) :] == spelling for spelling in tokens.ends)
    ]
    assert found
    assert (
        raw.decode(ids[: found[0]]).rstrip("\n{") == text.partition("</think>")[0] + "</think>"
    )


def write_merging_tokenizer(folder):
    raw = write_tokenizer(folder, "{{ messages[0].content }}", ["<|turn|>"])
    # Merges of signs and words, as BPE learns them.
    merges = ["t h", "i n", "in k", "th ink", "< /", ". </", '" </', "! </"]
    merges += ["Ċ Ċ", "> Ċ", "> ĊĊ"]
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text())
    vocabulary = data["model"]["vocab"]
    for merge in merges:
        vocabulary.setdefault(merge.replace(" ", ""), len(vocabulary) + 100)
    data["model"]["merges"] = merges
    data["pre_tokenizer"]["use_regex"] = False
    file.write_text(json.dumps(data))
    return type(raw).from_file(str(file))
