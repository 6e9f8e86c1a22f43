"""The names that Metal's library takes, and the names that a kernel gives to its globals."""

import functools
import itertools
import re
from pathlib import Path

import mlx.core as mx

_LIST = Path(__file__).with_name("metal_names.txt")
_TOKEN = re.compile(r"\.?\d[\w.]*|[A-Za-z_]\w*|::|\[\[|\]\]|[{}()\[\]<>;=,]")
_PARAMETER_KINDS = ("typename", "class", "bool", "short", "int", "uint")


@functools.cache
def metal_names() -> dict[str, str]:
    """Each name of ``metal_names.txt`` with its section."""
    names, section = {}, ""
    for line in _LIST.read_text().splitlines():
        if found := re.match(r"\[(.+)\]$", line):
            section = found[1]
        elif not line.startswith("#"):
            for pattern in line.split():
                for name in _expand(pattern):
                    names.setdefault(name, section)
    return names


def _expand(pattern: str) -> list[str]:
    """``x{a,b}`` is ``xa`` and ``xb``."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in itertools.product(*parts)]


@functools.cache
def preamble_names() -> frozenset[str]:
    """The global names of what MLX puts before each custom kernel: its utils.h."""
    folder = Path(mx.__file__).parent / "include/mlx/backend/metal/kernels"
    text = (folder / "utils.h").read_text()
    included = re.findall(r'#include "mlx/backend/metal/kernels/(\w+\.h)"', text)
    sources = [text, *((folder / name).read_text() for name in included)]
    names = frozenset().union(*(global_names(source, parameters=False) for source in sources))
    return names - {"metal", "static_assert"}


@functools.cache
def declarations() -> str:
    """C++ that declares, in one line, the names of ``namespace metal`` that are not emulated.

    Functions as types: a kernel's function of that name is then ambiguous for every argument.
    """
    names = {section: [] for section in metal_names().values()}
    for name, section in metal_names().items():
        names[section].append(name)
    types = "".join(f"struct {name}; " for name in names["metal"])
    values = "".join(f"extern not_emulated {name}; " for name in names["metal values"])
    return f"namespace metal {{ {types} struct not_emulated; {values} }}"


def global_names(source: str, *, parameters: bool = True) -> dict[str, int]:
    """The functions, types, constants and macros of Metal source, each with its first line.

    Names inside of braces are local or members: they hide a name of the library, which is
    allowed. ``parameters``: with those of templates.
    """
    names: dict[str, int] = {}
    text = re.sub(r"//[^\n]*|/\*.*?\*/", lambda c: "\n" * c[0].count("\n"), source, flags=re.S)
    for macro in re.finditer(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", text, re.M):
        names.setdefault(macro[1], text.count("\n", 0, macro.start()) + 1)
    code = re.sub(
        r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: "\n" * m[0].count("\n"), text, flags=re.M
    )
    statement: list[tuple[str, int]] = []
    depth = 0
    for match in _TOKEN.finditer(code):
        token = match[0]
        depth -= token == "}"
        if depth == 0:
            if token in ("{", ";"):
                template, rest = _split_template(statement)
                found = _declared(rest) + (_parameters(template) if parameters else [])
                for name, position in found:
                    names.setdefault(name, code.count("\n", 0, position) + 1)
                statement = []
            elif token != "}":
                statement.append((token, match.start()))
        depth += token == "{"
    return names


def _declared(statement: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The names that one declaration at namespace scope introduces, with their positions."""
    names: list[tuple[str, int]] = []
    words = [token for token, _ in statement] + [";"]
    if (words[0] in ("using", "static_assert") and "=" not in words) or "operator" in words:
        return names
    nesting, in_value = 0, False
    for (token, position), after in zip(statement, words[1:], strict=True):
        if nesting == 0 and token in (",", "="):
            in_value = token == "="  # `a = 1, b = 2` declares two names
        is_last = after in ("(", "=", ";", ",", "[")
        if nesting == 0 and not in_value and token.isidentifier() and is_last:
            names.append((token, position))
            if after == "(":
                break  # a function: its parameters are not global
        nesting += (token in ("(", "[", "<", "[[")) - (token in (")", "]", ">", "]]"))
    return names


def _parameters(template: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The names of the parameters of a template."""
    return [
        after
        for before, after in itertools.pairwise(template)
        if before[0] in _PARAMETER_KINDS and after[0].isidentifier()
    ]


def _split_template(statement: list) -> tuple[list, list]:
    """The parameters of a leading ``template <...>``, and what follows."""
    if not statement or statement[0][0] != "template":
        return [], statement
    nesting = 0
    for number, (token, _) in enumerate(statement):
        nesting += (token == "<") - (token == ">")
        if nesting == 0 and token == ">":
            return statement[2:number], statement[number + 1 :]
    return [], statement
