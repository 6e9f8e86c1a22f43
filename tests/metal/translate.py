"""From the Metal source that MLX generates to C++ for the headers in include/.

Almost everything is left to the headers: only what C++ cannot express is rewritten, and each
line stays the line it was, so that a fault names the line of the Metal source.
"""

import re
from dataclasses import dataclass

from metal.names import declarations, global_names, metal_names, preamble_names

SOURCE_NAME = "kernel.metal"


class RefusedError(ValueError):
    """The source is not in the subset of Metal that the emulator supports."""


@dataclass(frozen=True)
class Translation:
    """C++ source, and the names of the kernel's buffers in their order."""

    code: str
    buffers: list[str]


# Valid C++ that Metal does not have, or that the emulator does not.
_REFUSED = {
    r"\b(?:long\s+)?double\b": "double",
    r"\bstd\s*::": "the C++ standard library",
    r"\bgoto\b": "goto",
    r"\b(?:try|throw|catch)\b": "exceptions",
    r"\b(?:new|delete)\b": "new and delete",
    r"\b(?:virtual|dynamic_cast|typeid)\b": "run-time types",
    r"\bstatic\b(?!\s+(?:inline|METAL_FUNC|const|constant|constexpr)\b)": "mutable static",
    r"\b(?:asm|volatile|thread_local|co_await|co_yield)\b": "this keyword",
    r"\[[&=]?\]\s*\(": "a lambda",
    r"^[ \t]*#[ \t]*include(?!\s*<metal_\w+>)": "an #include of other than Metal's headers",
}
_TYPE = r"(?:unsigned\s+)?[A-Za-z_][\w:]*(?:\s*<[^<>;]*>)?"
_NAME = r"[A-Za-z_]\w*\s*(?:\[[^\[\]]*\]\s*)*"
_SHARED = re.compile(rf"\bthreadgroup\s+({_TYPE})\s+({_NAME}(?:,\s*{_NAME})*)([;=])")
_KERNEL = re.compile(
    r"(?:template <(?P<template>[^>]*)>\n)?\[\[kernel\]\] void (?P<name>\w+)\(\n"
    r"(?P<parameters>.*?)\) \{\n",
    re.S,
)
_INSTANCE = re.compile(r"\ntemplate \[\[host_name.*?decltype\(\w+(<.*>)\) \w+<.*\Z", re.S)
_BUFFER = re.compile(r"(?P<type>.*?)\s*(?P<kind>[*&])\s*(?P<name>\w+) \[\[buffer\(\d+\)\]\]")
_LITERAL = re.compile(
    r"(?<![\w.])((?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)([fFhH]?)(?![\w.])"
)


def translate(source: str) -> Translation:
    """Translate the source of one kernel, as captured.

    Raises:
        RefusedError: something that is known not to be supported; the compiler refuses the rest
    """
    text = _without_comments(source)
    for pattern, what in _REFUSED.items():
        if found := re.search(pattern, text, re.M):
            raise RefusedError(f"{what} is not supported (line {_line(text, found.start())})")
    kernel = _KERNEL.search(text)
    if kernel is None:
        raise RefusedError("no kernel in the source")
    instance = _INSTANCE.search(text)
    end = instance.start() if instance else len(text)

    header, body = text[: kernel.start()], text[kernel.end() : end]
    if found := _SHARED.search(header):
        raise RefusedError(
            f"threadgroup variable outside of the kernel (line {_line(text, found.start())})"
        )
    _check_names(header)
    body = _share(body, _line(text, kernel.end()))
    parameters, arguments, buffers = _parameters(kernel["parameters"])
    template = f"template <{kernel['template']}>\n" if kernel["template"] else ""
    code = _rewrite(f"{header}{template}void {kernel['name']}(\n{parameters}) {{\n{body}")
    call = f"{kernel['name']}{instance[1] if instance else ''}({', '.join(arguments)})"
    return Translation(
        f'#include "kernel.h"\n{declarations()}\n#line 1 "{SOURCE_NAME}"\n{code}\n'
        "void emulator::kernel() {\n"
        "  [[maybe_unused]] const metal::Attributes here;\n"
        f"  {call};\n}}\n",
        buffers,
    )


def _check_names(header: str) -> None:
    """Refuse globals whose name Metal's library or MLX's preamble has taken."""
    for name, line in global_names(header).items():
        if section := metal_names().get(name):
            what = "a keyword" if section == "keyword" else "a name of Metal's library"
            raise RefusedError(f"the global {name!r} (line {line}) is {what}")
        if name in preamble_names():
            raise RefusedError(f"the global {name!r} (line {line}) is a name of MLX's utils.h")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _without_comments(text: str) -> str:
    return re.sub(
        r"//[^\n]*|/\*.*?\*/",
        lambda comment: "\n" * comment[0].count("\n") or " ",
        text,
        flags=re.S,
    )


def _rewrite(code: str) -> str:
    """Drop attributes and includes; `constant` is const; unsuffixed literals are float."""
    code = re.sub(r"\[\[[\w(), ]*\]\]", "", code)
    code = re.sub(r"^[ \t]*#[ \t]*include.*", "", code, flags=re.M)
    code = re.sub(r"\b(?:const\s+constant|constant\s+const|constant)\b", "const", code)

    def literal(match: re.Match) -> str:
        return f"half({match[1]}f)" if match[2] in ("h", "H") else f"{match[1]}f"

    return _LITERAL.sub(literal, code)


def _share(body: str, first_line: int) -> str:
    """`threadgroup T a[N], b;` declares variables that all threads of a threadgroup share."""
    count = 0

    def declare(match: re.Match) -> str:
        nonlocal count
        line = first_line + _line(body, match.start()) - 1
        if match[3] == "=":
            raise RefusedError(f"threadgroup variable with an initialiser (line {line})")
        declarations = []
        for declarator in re.findall(_NAME, match[2]):
            name, dimensions = re.match(r"(\w+)(.*)", declarator, re.S).groups()
            declarations.append(
                f"using {name}_type = {match[1]} {dimensions}; {name}_type& {name} = "
                f'threadgroup_variable<{name}_type>({count}, "{name}");'
            )
            count += 1
        text = " ".join(declarations)
        return text + "\n" * (match[0].count("\n") - text.count("\n"))

    return _SHARED.sub(declare, body)


def _parameters(text: str) -> tuple[str, list[str], list[str]]:
    """The parameters without attributes, an argument for each, and the buffers' names."""
    parameters, arguments, buffers = [], [], []
    for line in filter(None, (line.strip().rstrip(",") for line in text.split("\n"))):
        if buffer := _BUFFER.match(line):
            value_type = re.sub(r"\b(?:device|constant)\b", "", buffer["type"])
            pointer = f"reinterpret_cast<{value_type}*>(emulator::buffer({len(buffers)}))"
            arguments.append(f"*{pointer}" if buffer["kind"] == "&" else pointer)
            buffers.append(buffer["name"])
            if metal_names().get(buffer["name"]) in ("keyword", "global"):
                raise RefusedError(f"the parameter {buffer['name']!r} is a keyword or a macro")
        elif attribute := re.match(r"\w+ \w+ \[\[(\w+)\]\]$", line):
            arguments.append(f"here.{attribute[1]}")
        else:
            raise RefusedError(f"kernel parameter {line!r} is not supported")
        parameters.append("  " + re.sub(r"\[\[.*?\]\]", "", line))
    return ",\n".join(parameters), arguments, buffers
