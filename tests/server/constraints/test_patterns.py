"""ECMAScript's regular expressions, in Rust's dialect."""

import time

import pytest
from support.schema_grammars import accepts

from mlxnode.server.constraints.patterns import translate
from mlxnode.server.errors import InvalidRequest


@pytest.mark.parametrize(
    ("pattern", "valid", "invalid"),
    [
        (r"b", ["abc", "b"], ["ac"]),  # a search, not a match of the whole
        (r"^a|b$", ["axx", "xxb"], ["xax"]),
        (r"^\d+$", ["12"], ["\u0661", "a"]),
        (r"^\w\W$", ["a-"], ["--"]),
        (r"^\s\S$", [" a", "\ta", "\u00a0a"], ["aa"]),
        (r"^[\s-.]+$", ["- ."], ["a"]),
        (r"^[^\s-]{2}$", ["ab"], ["a-", "a "]),
        (r"^.$", ["ä"], ["\n", "\u2028"]),
        (r"^[^]$", ["\n", "a"], [""]),
        (r"^(?<year>\d{4})-(?:x)$", ["2024-x"], ["24-x"]),
        (r"^\u00e4\u{1F600}\uD83D\uDE00\x41$", ["ä😀😀A"], ["ä"]),
        (r"^\/\-\_\@\:\'$", ["/-_@:'"], [""]),
        (r"^[[a&&b~~]+$", ["[&~ab"], ["c"]),
        (r"^[+--]+$", ["+,-"], ["."]),
        (r"^a{,2}{x}$", ["a{,2}{x}"], ["aa"]),
        (r"^a+?b*?$", ["aab"], ["c"]),
        (r"\Aab\Z", ["ab"], ["xab"]),
        (r"^\p{Lu}$", ["Ä"], ["ä"]),
        (r"^(?i)ab$", ["aB"], ["ac"]),
        (r"^[\b]$", ["\b"], ["b"]),
        (r"^(?=.*[A-Z])(?=.*\d).{4,}$", ["aA11"], ["aa11", "aAbb", "A1"]),
    ],
)
def test_a_pattern_means_the_same(pattern: str, valid: list[str], invalid: list[str]):
    schema = {"type": "string", "pattern": pattern}
    assert not [text for text in valid if not accepts(schema, text, strict=True)]
    assert not [text for text in invalid if accepts(schema, text, strict=True)]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"a(?=b)", "look-ahead"),
        (r"^(?!x)a", "negative look-ahead"),
        (r"^(?=a)b|c", "look-ahead"),
        (r"(?<=a)b", "look-behind"),
        (r"(?<!a)b", "look-behind"),
        (r"(a)\1", "back-reference"),
        (r"(?<n>a)\k<n>", "back-reference"),
        (r"\bword\b", "word boundary"),
        (r"\Qa\E", r"escape \Q"),
        (r"[]", "empty class"),
        (r"\uD83D", "half a character"),
        (r"(?>a)", "unknown kind"),
        (r"(?s).", "unknown kind"),
        (r"[a", "unclosed class"),
        (r"(", "unclosed group"),
        ("\\", "escape"),
        (r"\p{Nonsense}", "property"),
    ],
)
def test_what_a_pattern_cannot_say_is_left_out_or_refused(pattern: str, reason: str):
    schema = {"type": "object", "properties": {"p": {"type": "string", "pattern": pattern}}}
    assert accepts(schema, {"p": "a"})
    with pytest.raises(InvalidRequest) as caught:
        accepts(schema, {"p": "a"}, strict=True)
    assert "at properties.p, 'pattern' cannot be enforced" in caught.value.message
    assert reason in caught.value.message
    assert "set 'tools[1].function.strict' to false" in caught.value.message


def test_a_negative_look_ahead_leaves_the_rest_of_the_pattern():
    schema = {"type": "string", "pattern": r"^(?!\.)(?!.*\.\.)[a-z.]+@[a-z]+$"}
    assert accepts(schema, "a.b@c")
    assert not accepts(schema, "a.b")


@pytest.mark.parametrize(
    "pattern",
    ["(?=" * 5000, "^" + "(?=a)" * 3000, "[" * 9000, "\\" * 9001, "(" * 9000 + ")" * 9000],
)
def test_translate_ends_soon_with_a_long_pattern(pattern: str):
    started = time.process_time()
    assert translate(pattern).problem is not None
    assert time.process_time() - started < 2
