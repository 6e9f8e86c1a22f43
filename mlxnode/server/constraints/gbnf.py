"""Grammars in llama.cpp's GBNF (and vLLM's EBNF, which is the same) to llguidance's Lark.

GBNF: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md. Both have the same
operators, so that a grammar is translated token by token, in linear time.
"""

import json
import re
from collections.abc import Iterator

_HEAD = r"[A-Za-z0-9_-]+[ \t\r\n]*::="
_TOKENS = re.compile(
    rf"""
    (?P<space>[ \t\r\n]+|\#[^\r\n]*)
  | (?P<head>{_HEAD})
  | (?P<name>[A-Za-z0-9_-]+)
  | "(?P<text>(?:[^"\\]|\\.)*+)"
  | \[(?P<class>\^?(?:[^\]\\]|\\.)*+)\]
  | (?P<repeat>\{{\s*[0-9]{{1,6}}\s*(?:,\s*(?:[0-9]{{1,6}})?\s*)?\}})
  | (?P<any>\.)
  | (?P<operator>[|()*+?])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|([^\\])", re.DOTALL
)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}


def is_gbnf(grammar: str) -> bool:
    """True if a line of ``grammar`` begins a rule of GBNF."""
    return re.search(rf"^[ \t]*{_HEAD}", grammar, re.MULTILINE) is not None


def gbnf_to_lark(grammar: str) -> str:
    """``grammar`` as a grammar of Lark, which starts with GBNF's rule ``root``.

    Raises:
        ValueError: with the reason.
    """
    tokens = list(_tokens(grammar))
    heads = [text.removesuffix("::=").rstrip() for kind, text in tokens if kind == "head"]
    names = _lark_names(heads)
    if tokens[0][0] != "head":
        raise ValueError(f"a rule is expected before {tokens[0][1][:20]!r}")
    parts: list[str] = []
    for kind, text in tokens:
        if kind == "head":
            parts.append(f"\n{names[text.removesuffix('::=').rstrip()]}:")
        else:
            parts.append(_translated(kind, text, names))
    return " ".join(parts).strip()


def _tokens(grammar: str) -> Iterator[tuple[str, str]]:
    """The kind and the text of each token."""
    at = 0
    while at < len(grammar):
        found = _TOKENS.match(grammar, at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"unexpected {grammar[at : at + 20]!r}")
        at = found.end()
        if found.lastgroup != "space":
            yield found.lastgroup, found[found.lastgroup]


def _lark_names(heads: list[str]) -> dict[str, str]:
    """The name of each rule in Lark, where ``-`` and capitals mean something else."""
    if "root" not in heads:
        raise ValueError("there is no rule 'root'")
    names: dict[str, str] = {}
    taken: set[str] = set()
    for number, head in enumerate(heads):
        if head in names:
            raise ValueError(f"the rule {head!r} is defined twice")
        name = "start" if head == "root" else "r_" + head.replace("-", "_").lower()
        names[head] = name if name not in taken else f"{name}_{number}"
        taken.add(names[head])
    return names


def _translated(kind: str, text: str, names: dict[str, str]) -> str:
    if kind == "name":
        if text not in names:
            raise ValueError(f"there is no rule {text!r}")
        return names[text]
    if kind == "text":
        return json.dumps("".join(_characters(text)))
    if kind == "class":
        return f"/{_class(text)}/"
    if kind == "any":
        return "/(?s:.)/"
    return re.sub(r"\s", "", text)


def _class(text: str) -> str:
    """A class of characters of GBNF in Rust's syntax, where more characters are special."""
    start = "^" if text.startswith("^") else ""
    items: list[str] = []
    for found in _ESCAPE.finditer(text, len(start)):
        # A hyphen between two characters makes a range.
        is_range = found[5] == "-" and items and found.end() < len(text)
        items.append("-" if is_range else rf"\u{{{ord(_character(found)):x}}}")
    if not items:
        return r"(?s:.)" if start else r"[^\s\S]"
    return f"[{start}{''.join(items)}]"


def _characters(text: str) -> Iterator[str]:
    return map(_character, _ESCAPE.finditer(text))


def _character(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code is None:
        return found[5] or _CONTROLS.get(found[4], found[4])
    if int(code, 16) > 0x10FFFF or 0xD800 <= int(code, 16) < 0xE000:
        raise ValueError(f"there is no character {code}")
    return chr(int(code, 16))
