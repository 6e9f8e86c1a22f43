"""How commands print: results on standard output, all else on standard error.

Imports rich only where something is drawn.
"""

import contextlib
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


def emit(
    value: Any,
    as_json: bool,
    text: "RenderableType | Callable[[], RenderableType]",
) -> None:
    """Print a result: ``value`` as one JSON document, or ``text`` for people.

    ``value`` is a msgspec struct, a dataclass, or lists and dictionaries. ``text`` is a string,
    what rich can draw, or a function that makes it, which is called without ``as_json`` only.
    """
    if as_json:
        print(to_json(value))
        return
    drawn = text() if callable(text) else text
    if isinstance(drawn, str):
        print(drawn)
        return
    from mlxnode.cli.terminal import draw

    draw(drawn)


def to_json(value: Any) -> str:
    """``value`` as an indented JSON document."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain)).decode()


def to_json_line(value: Any) -> str:
    """``value`` as JSON in one line, for what is read line by line."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=_plain).decode()


def say(text: str) -> None:
    """Tell the user something that is no result."""
    with contextlib.suppress(OSError):  # the terminal may be closed, and the node still drains
        print(text, file=sys.stderr, flush=True)


def print_error(text: str, as_json: bool) -> None:
    """Say why the command cannot go on; with ``as_json``, also as the JSON document."""
    if as_json:
        print(to_json({"error": text}))
    say(f"mlxnode: {text}")


def program() -> str:
    """How this user calls mlxnode in a shell: by its name only where the shell finds it."""
    started = Path(sys.argv[0])
    if started.name != "mlxnode" or not started.is_file():
        return f"{shlex.quote(sys.executable)} -m mlxnode"
    found = shutil.which("mlxnode")
    if found is not None and Path(found).resolve() == started.resolve():
        return "mlxnode"
    return shlex.quote(str(started.absolute()))


def _plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)
