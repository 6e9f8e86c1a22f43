"""Compile translated kernels to shared libraries, kept in a cache by content."""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from metal.translate import SOURCE_NAME, RefusedError

INCLUDE = Path(__file__).parent / "include"

_FLAGS = ["-std=c++20", "-fPIC", "-g", "-ffp-contract=off", "-fno-strict-aliasing"]
_FLAGS += ["-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-fvisibility=hidden"]
# Reads of variables that nobody set give a pattern, the same each time.
_KERNEL_FLAGS = ["-ftrivial-auto-var-init=pattern", "-Wdouble-promotion", "-Wuninitialized"]
_KERNEL_FLAGS += ["-Wvla", "-Wreturn-type"]
_KERNEL_FLAGS += [f"-Werror={flag[2:]}" for flag in _KERNEL_FLAGS if flag.startswith("-W")]
# Instrumentation only: no sanitizer is linked, see include/instrumentation.cpp.
_UNDEFINED = (
    "shift,signed-integer-overflow,integer-divide-by-zero,alignment,float-cast-overflow"
)
_CHECKED_FLAGS = ["-O1", "-fsanitize=thread", f"-fsanitize={_UNDEFINED}"]
_CHECKED_FLAGS += ["-fsanitize-coverage=trace-pc"]
_CHECKED_GCC_FLAGS = ["-fsanitize=bounds"]
# Clang's `bounds` has a part that traps instead of calling a handler, and it leaves out the
# read of `x += 1` unless told.
_CHECKED_CLANG_FLAGS = ["-fsanitize=array-bounds"]
_CHECKED_CLANG_FLAGS += ["-mllvm", "-tsan-instrument-read-before-write=1"]


class CompileError(RuntimeError):
    """The compiler does not accept the source; the text is its messages."""


@functools.cache
def find_compiler() -> str | None:
    """The C++ compiler to use: $CXX, else the first of the usual names, else None."""
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if path := shutil.which(name):
            return path
    return None


@functools.cache
def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout


def build(code: str, *, checked: bool) -> Path:
    """Compile one kernel; return the path of the shared library.

    Raises:
        RefusedError: the compiler does not accept it, with its messages
    """
    flags = [*_FLAGS, *_KERNEL_FLAGS]
    if not checked:
        flags += ["-O2"]
    elif "clang" in _version(_compiler()):
        flags += [*_CHECKED_FLAGS, *_CHECKED_CLANG_FLAGS]
    else:
        flags += [*_CHECKED_FLAGS, *_CHECKED_GCC_FLAGS]
    library = _cached(".so", code, *flags)
    if not library.exists():
        kernel = library.with_suffix(".o")
        try:
            _compile([*flags, f"-I{INCLUDE}", "-c", "-x", "c++", "-"], kernel, code)
        except CompileError as error:
            raise RefusedError(f"the compiler refuses the kernel:\n{error}") from None
        _compile(["-shared", str(kernel), *_machine(), "-lm"], library)
    return library


def source_line(library: Path, offset: int) -> str:
    """The line of the Metal source at an offset of the library's code, "?" if unknown."""
    address = hex(offset - 1)  # a return address: the call is before it
    for command in (
        ["addr2line", "-i", "-e", str(library), address],
        ["atos", "-i", "-o", str(library), "-offset", address],
    ):
        if shutil.which(command[0]):
            text = subprocess.run(command, capture_output=True, text=True).stdout
            if found := re.search(re.escape(SOURCE_NAME) + r":(\d+)", text):
                return found[1]
    return "?"


def _compiler() -> str:
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("no C++ compiler on this machine")
    return compiler


@functools.cache
def _machine_sources() -> str:
    return "".join(path.read_text() for path in sorted(INCLUDE.iterdir()))


def _cached(suffix: str, *key: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"mlxnode-metal-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    parts = (*key, _machine_sources(), _version(_compiler()))
    return folder / (hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24] + suffix)


def _machine() -> list[str]:
    """The objects of the machine that runs kernels, compiled if the cache has none."""
    objects = []
    for name in ("threads", "memory", "instrumentation", "accuracy"):
        target = _cached(".o", name, *_FLAGS)
        if not target.exists():
            _compile([*_FLAGS, "-O2", "-c", str(INCLUDE / f"{name}.cpp")], target)
        objects.append(str(target))
    return objects


def _compile(arguments: list[str], target: Path, code: str | None = None) -> None:
    """Run the compiler, on ``code`` if given; the target is complete or does not exist."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    command = [_compiler(), *arguments, "-o", str(partial)]
    result = subprocess.run(command, capture_output=True, text=True, input=code)
    if result.returncode:
        raise CompileError(result.stderr[:4000])
    partial.rename(target)
