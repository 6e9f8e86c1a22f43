"""A second opinion on kernels: clang's C++ for OpenCL, which knows address spaces.

Metal is clang with such spaces too. Nothing is run: the source that MLX would pass to Metal
must compile, with ``opencl/metal.h`` in place of Metal's library.
"""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

from metal.translate import INSTANCE, KERNEL, SOURCE_NAME, RefusedError, without_comments

_HEADER = Path(__file__).parent / "opencl" / "metal.h"
_SPACES = {"device", "threadgroup", "thread", "constant"}
_FLAGS = ["-x", "cl", "-cl-std=clc++2021", "-cl-no-stdinc", "-target", "spir64-unknown-unknown"]
_FLAGS += ["-fsyntax-only", "-Werror", "-Wno-unused-value"]


@functools.cache
def find_clang() -> str | None:
    """A clang that has C++ for OpenCL 2021, else None."""
    for name in filter(None, (os.environ.get("CLANG"), "clang", "clang-14", "clang-16")):
        path = shutil.which(name)
        if path and not _compile(path, "kernel void nothing() {}\n"):
            return path
    return None


def check_address_spaces(source: str) -> None:
    """Compile Metal source as MLX generates it, and look for pointers and methods of no space.

    Raises:
        RefusedError: the compiler does not accept it, with its messages
    """
    _check_qualifiers(without_comments(source))
    clang = find_clang()
    if clang is None:
        raise RuntimeError("no clang with C++ for OpenCL on this machine")
    if messages := _compile(clang, _to_opencl(source)):
        raise RefusedError(f"clang refuses the kernel:\n{messages[:4000]}")


def _compile(clang: str, code: str) -> str:
    """The compiler's messages, empty if it accepts the code."""
    command = [clang, *_FLAGS, "-include", str(_HEADER), "-"]
    result = subprocess.run(command, capture_output=True, text=True, input=code)
    return result.stderr if result.returncode else ""


def _to_opencl(source: str) -> str:
    """One kernel that is no template, as OpenCL has none; lines keep their numbers."""
    kernel, instance = KERNEL.search(source), INSTANCE.search(source)
    if kernel is None:
        raise RefusedError("no kernel in the source")
    header = source[: kernel.start()]
    body = source[kernel.end() : instance.start() if instance else len(source)]
    constants = ""
    if instance and kernel["template"]:
        values = re.findall(r"[^<>,]+", instance[1])
        for parameter, value in zip(kernel["template"].split(","), values, strict=True):
            kind, name = parameter.split()
            is_type = kind == "typename"
            constants += (
                f"typedef {value} {name}; "
                if is_type
                else (f"constant constexpr {kind} {name} = {value}; ")
            )
    parameters = re.sub(r"\[\[.*?\]\]", "", kernel["parameters"])
    lines = "\n" * (1 if kernel["template"] else 0)
    code = f"{header}{lines}__kernel void {kernel['name']}(\n{parameters}) {{\n{body}"
    code = re.sub(r"^[ \t]*#[ \t]*include.*", "", code, flags=re.M)
    return f'{constants}\n#line 1 "{SOURCE_NAME}"\n{code}\n'


def _check_qualifiers(source: str) -> None:
    """Refuse what Metal before 4.1 refuses, or 4.1 reads as the generic space.

    That is a pointer or a reference as a parameter or member that names no address space, and a
    method that does not say for which memory it is.
    """
    kernel = KERNEL.search(source)
    header = source[: kernel.start() if kernel else None]
    header = re.sub(r"^[ \t]*#.*|\[[^\]\n]*\]", "", header, flags=re.M)  # nor lengths of arrays
    scopes: list[bool] = []  # of the open braces: true for that of a struct
    statement: list[str] = []
    line = 1
    for token in re.findall(r"\w+|\n|[^\w\s]", header):
        line += token == "\n"
        if token == "}":
            scopes.pop()
            statement = []
        elif token in ("{", ";"):
            if all(scopes):
                _check_declaration(statement, token == "{", bool(scopes), line)
            if token == "{":
                scopes.append("struct" in statement and "(" not in statement)
            statement = []
        elif token != "\n":
            statement.append(token)


def _check_declaration(words: list[str], has_body: bool, is_member: bool, line: int) -> None:
    is_function = "(" in words and "=" not in words
    if is_function and has_body and is_member:
        after = words[len(words) - words[::-1].index(")") :]
        if not _SPACES & set(after):
            raise RefusedError(f"a method says for no address space that it is (line {line})")
    parts = [[]]
    for word in words:
        parts[-1].append(word)
        if word in (",", "(", "=") or (word == ">" and "template" in parts[-1]):
            parts.append([])
        if word == "=":
            break  # what follows is a value
    for part in parts:
        if {"*", "&"} & set(part) and not _SPACES & set(part):
            what = " ".join(part).rstrip(",() ")
            raise RefusedError(f"{what!r} names no address space (line {line})")
