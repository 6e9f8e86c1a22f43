"""GBNF, llama.cpp's notation of grammars, over the texts that the grammars allow."""

import contextlib
import time

import pytest

from mlxnode.grammar import compile_grammar
from mlxnode.server.constraints.constraint import MAX_TEXT_BYTES, Constraint
from mlxnode.server.constraints.gbnf import gbnf_to_lark, is_gbnf
from mlxnode.server.constraints.trial import _byte_tokenizer
from mlxnode.server.errors import InvalidRequest

JSON = r"""
# llama.cpp's own example
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
CHESS = (
    'root ::= Move-a "-" [^\\]\\-/&~a-c] .\n'
    "Move-a ::= [NBKQR]? [a-h] [1-8]\r\n"
    'move_A ::= "x" # not used, and nearly the same name'
)


def allows(grammar: str, text: str) -> bool:
    matcher = compile_grammar(
        _byte_tokenizer(), Constraint.of_grammar(grammar, "grammar").grammar
    )
    tokens = list(text.encode())
    if matcher.validate_tokens(tokens) < len(tokens):
        return False
    matcher.consume_tokens(tokens)
    return matcher.is_accepting()


@pytest.mark.parametrize(
    ("grammar", "text", "expected"),
    [
        (JSON, '{"a": [1, -2.5e3, "x\\n\\u00e9"], "b": {}}', True),
        (JSON, '{"é": "/[&&]"}', True),
        (JSON, '{"a": }', False),
        (JSON, '{"a": "\n"}', False),
        (CHESS, "Nf3-zé", True),
        (CHESS, "f3-d\n", True),
        (CHESS, "f3-ax", False),
        (CHESS, "f3-]x", False),
        (CHESS, "f3--x", False),
        (CHESS, "f3-/x", False),
        (CHESS, "x", False),
        ('root ::= "a"{2} "b"{1,} "c"{,2}'.replace("{,2}", "{0,2}"), "aabbcc", True),
        ('root ::= "a"{2} "b"{1,}', "aab", True),
        ('root ::= "a"{2} "b"{1,}', "ab", False),
        ('root ::= ("a" | "b")+ start\nstart ::= "!"?', "abba!", True),
        (r'root ::= "\x41\u00e9\U0001F600\t" [\u00e9-\u00ff-]', "Aé😀\tê", True),
        (r'root ::= "\x41\u00e9\U0001F600\t" [\u00e9-\u00ff-]', "Aé😀\t-", True),
        ("root ::= [^]", "x", True),
        ('root ::= root-1 root_1\nroot-1 ::= "a"\nroot_1 ::= "b"', "ab", True),
        ('root ::= "a" b | c\nb ::= "1"\nc ::= "2"', "2", True),
    ],
)
def test_gbnf_allows_the_texts_of_the_grammar(grammar, text, expected):
    assert allows(grammar, text) == expected


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("root ::= x", "no rule 'x'"),
        ('a ::= "b"', "no rule 'root'"),
        ('root ::= "a"\nroot ::= "b"', "defined twice"),
        ("root ::= [a", "unexpected '[a'"),
        ('root ::= "a', "unexpected"),
        (r'root ::= "\ud800"', "no character d800"),
        (r'root ::= "\UFFFFFFFF"', "no character"),
        ('"x"\nroot ::= "b"', "a rule is expected"),
    ],
)
def test_gbnf_that_is_wrong_is_refused_with_the_reason(grammar, reason):
    with pytest.raises(InvalidRequest) as caught:
        Constraint.of_grammar(grammar, "grammar")
    assert reason in caught.value.message and caught.value.param == "grammar"


@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        ('root ::= "a"', True),
        ('# x\n  my-rule\n ::= "a"', True),
        ('start: "a"', False),
        ('start: "x ::= y"', False),
        ("", False),
    ],
)
def test_gbnf_is_told_from_lark(grammar, expected):
    assert is_gbnf(grammar) == expected


@pytest.mark.parametrize(
    "unit", ['"', "\\", "[", "a ::= ", "( ", "{1", "- ", '"\\', "\n", "#", "a", '"a" ', "é"]
)
def test_gbnf_of_any_kind_is_read_in_linear_time(unit):
    text = 'root ::= "a"\n' + unit * (MAX_TEXT_BYTES // len(unit.encode()))
    started = time.process_time()
    with contextlib.suppress(ValueError):
        gbnf_to_lark(text)
    assert is_gbnf(text)
    assert time.process_time() - started < 2
