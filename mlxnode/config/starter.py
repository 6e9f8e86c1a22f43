"""The configuration that ``mlxnode init`` writes: the shipped file, with a key of its own.

``shipped.toml`` is a link to the ``config.toml`` of the repository, so that each key is
explained in one place. Its demo models and its limits become comments.
"""

import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from mlxnode.errors import ConfigError

_HEADER = """\
# The configuration of mlxnode, written by `mlxnode init`. A key that is commented out is not
# set: remove the # to set it. `mlxnode check` tells what is wrong with the file.
#
# No table [api.models.<id>] is set, so the node serves the models that it finds on this machine
# ([server.discovery]). Only you may be able to read this file, because it holds your key.

"""
_SET = ("enabled", "address", "api_key", "require_auth")  # in [api]
_TABLE = re.compile(r"\[([^\]]+)\]")
_KEY = re.compile(r"([a-z_]+) = ")


def new_key() -> str:
    """A key that nobody can guess."""
    return f"sk-{secrets.token_urlsafe(32)}"


def starter_text(key: str, address: str | None = None) -> str:
    """The text of a new configuration; ``address`` is the shipped one by default."""
    shipped = files("mlxnode.config").joinpath("shipped.toml").read_text(encoding="utf-8")
    _, api, body = shipped.partition("[api]")
    table, lines = "", []
    for line in (api + body).splitlines():
        if found := _TABLE.match(line):
            table = found[1]
            is_set = not table.startswith("api.models.")
        else:
            found = _KEY.match(line)
            is_set = found is None or (table == "api" and found[1] in _SET)
            if found and table == "api" and found[1] == "api_key":
                line = _line(f'api_key = "{key}"', "# the key that clients send")
            elif found and table == "api" and found[1] == "address" and address is not None:
                line = _line(f"address = {json.dumps(address)}", line[line.index("#") :])
        # The comments at the ends of lines stay one below the other.
        lines.append(line if is_set else f"# {line.replace('   #', ' #', 1)}")
    return _HEADER + "\n".join(lines) + "\n"


def _line(setting: str, comment: str) -> str:
    return f"{setting:<37} {comment}"


def starter_path(environ: Mapping[str, str], prefix: Path | None) -> Path:
    """The file of a new configuration: the one that a node looks for.

    ``prefix`` is Homebrew's folder if this mlxnode is installed by Homebrew, whose service has
    a file of its own.

    Raises:
        ConfigError: the user has no home folder.
    """
    if named := environ.get("MLXNODE_CONFIG"):
        return Path(named).expanduser().absolute()
    if prefix is not None:
        return prefix / "etc" / "mlxnode" / "config.toml"
    try:
        return Path("~/.config/mlxnode/config.toml").expanduser()
    except RuntimeError as error:
        raise ConfigError("this user has no home folder: name a file with --config") from error


def write_starter(file: Path, text: str, *, is_forced: bool) -> None:
    """Write ``text`` to ``file`` in one step, for this user alone from the first byte.

    Raises:
        ConfigError: the file exists and ``is_forced`` is False, or cannot be written.
    """
    if file.exists() and not is_forced:
        raise ConfigError(f"{file} exists; --force replaces it")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            if is_forced:
                os.replace(scratch, file)
            else:
                os.link(scratch, file)  # unlike a rename, it never replaces a file
        finally:
            Path(scratch).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
