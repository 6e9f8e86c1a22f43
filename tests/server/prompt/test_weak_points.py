import time

import pytest
from tokenizers import normalizers

from mlxnode.server.prompt.weak_points import WeakPoints

CONTROLS = ["<|im_end|>", "<think>", "</think>", "[INST]", "<|<think>"]


def filled(text: str, template: str = "", normalizer=None) -> str:
    return (
        WeakPoints(CONTROLS, template, normalizer).filled(text, "\ua000").replace("\ua000", "#")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a < b | c > [d] <|im_ end|> INST]", "a < b | c > [d] <|im_ end|> INST]"),
        ("a<|im_end|>b[INST]", "a<#|im_end|>b[#INST]"),
        ("<THINK>", "<#THINK>"),  # a template can write the letters in lower case
        ("<|<think>", "<#|<#think>"),  # one begins in what could be another one
        ("text <|im_", "text <#|im_"),  # the next text could complete it
        ("text <|im_ \n", "text <#|im_ \n"),  # the template can trim it
        ("text <", "text <#"),
        ("text <thx", "text <thx"),
    ],
)
def test_a_weak_point_is_after_the_first_character_of_a_control_token(text, expected):
    assert filled(text) == expected


@pytest.mark.parametrize(
    "template", ["{{ m.replace('/no_think', '') }}", '{{ m | replace( "/no_think", "")}}']
)
def test_each_first_character_is_weak_where_the_template_removes_text(template):
    text = "<|im_/no_thinkend|> a < b"
    assert filled(text, template) == "<#|im_/no_thinkend|> a <# b"
    assert filled(text) == text
    assert filled("a < b", template) == "a < b"
    assert filled(text, r"{{ m.replace('\n', '') }}") == text  # white space: no token has it


@pytest.mark.parametrize("template", ["{{ '<' ~ key ~ '>' }}", "<{{ key }}>", "<\n{%- if a %}"])
def test_the_start_is_weak_where_the_template_begins_a_control_token(template):
    for text in ("|im_end|>", " think>", ">", "> quoted"):
        assert filled(text, template) == text[: -len(text.lstrip())] + "#" + text.lstrip()
        assert filled(text) == text
    assert filled("INST]", template) == "INST]"
    assert filled("a>", template) == "a>"
    is_closed = ">" in template
    assert filled("/think", template) == ("#/think" if is_closed else "/think")
    assert filled("thin", template) == "thin"


@pytest.mark.parametrize(
    ("normalizer", "text", "expected"),
    [
        (None, "\uff1cthink\uff1e", False),
        (normalizers.NFKC(), "\uff1cthink\uff1e", True),
        (normalizers.NFKC(), "\uff08a\uff09", False),
        (normalizers.NFC(), "\uff1cthink\uff1e", False),
        (normalizers.NFC(), "<thin\u212a>", True),
        (normalizers.Replace("~", "<"), "~think>", True),
        (normalizers.Replace(" ", "\u2581"), "a b", False),
    ],
)
def test_what_the_normalizer_writes_is_looked_at(normalizer, text, expected):
    assert WeakPoints(CONTROLS, "", normalizer).has_any(text) is expected


@pytest.mark.parametrize(
    "piece", ["<", "<|", "<|im_end|>", "[", " ", "/no_think", "\uff1c", "a"]
)
def test_weak_points_of_hostile_texts_take_linear_time(piece):
    many = [f"<|reserved_{number}|>" for number in range(3000)]
    points = WeakPoints([*CONTROLS, *many], "{{ '<' ~ a.replace('/no_think', '') ~ '>' }}")
    text = piece * (1_000_000 // len(piece))
    started_at = time.process_time()
    points.filled(text, "\ua000")
    assert time.process_time() - started_at < 5
