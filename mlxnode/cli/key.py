"""``mlxnode key``: a key of the configuration, for shells: ``$(mlxnode key)``."""

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxnode.cli.options import command, config_option, json_option
from mlxnode.cli.output import emit

if TYPE_CHECKING:
    from mlxnode.config.file import LoadedConfig
    from mlxnode.config.keys import Secret

EXAMPLES = """\
mlxnode key                            a key that may use every model
mlxnode key alice                      the key of [api.keys.alice]
mlxnode key --admin                    a key for the URLs below /admin
curl http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $(mlxnode key)"
export MLXNODE_API_KEY="$(mlxnode key)"
"""


@command(EXAMPLES)
@click.argument("name", required=False)
@config_option
@click.option("--admin", is_flag=True, help="A key of the administrator.")
@click.option("--model", metavar="ID", help="A key that may use this model.")
@json_option
def key(
    name: str | None, config: Path | None, admin: bool, model: str | None, as_json: bool
) -> int:
    """Print a key of the configuration, to a terminal or a pipe.

    NAME is that of a table [api.keys.NAME]. Default: a key that may use every model.
    """
    if admin and (name or model):
        raise click.UsageError("--admin goes with neither NAME nor --model")

    from mlxnode.config.file import load_config
    from mlxnode.config.keys import readable_admin_keys, readable_keys

    _refuse_a_file_for_all()
    loaded = load_config(config)
    read = readable_admin_keys if admin else readable_keys
    found = _choose(read(loaded.config.api, loaded.folder, os.environ), name, model)
    if found is None:
        raise _missing(loaded, name, model, admin)
    emit({"key": found.key, "source": found.source}, as_json, found.key)
    return 0


def _choose(
    secrets: "Iterable[Secret]", name: str | None, model: str | None
) -> "Secret | None":
    """The first key that fits; without a wish, one for every model before one for some."""
    fitting = [
        secret
        for secret in secrets
        if (name is None or secret.name == name) and (model is None or secret.may_use(model))
    ]
    return min(fitting, key=lambda secret: secret.models is not None, default=None)


def _missing(
    loaded: "LoadedConfig", name: str | None, model: str | None, admin: bool
) -> Exception:
    from mlxnode.errors import ConfigError, NodeError

    api = loaded.config.api
    if admin:
        return NodeError(f"{loaded.where}: api.admin_key: there is none")
    if name is not None and name not in api.keys:
        known = ", ".join(api.keys) or "none"
        return ConfigError(f"{loaded.where}: api.keys.{name}: no such key; there are {known}")
    if model is not None:
        return NodeError(f"{loaded.where}: no key that can be told may use {model}")
    if not api.require_auth and not api.keys:
        return NodeError(f"{loaded.where}: there is no key, and api.require_auth = false")
    whose = "its keys" if name is None else f"api.keys.{name}"
    return NodeError(
        f"{loaded.where}: {whose}: only the SHA-256 is known, from which no key can be told; "
        "set MLXNODE_API_KEY to the key"
    )


def _refuse_a_file_for_all() -> None:
    """Raises NodeError if standard output is a file that others can read: a log, say."""
    from mlxnode.errors import NodeError

    try:
        found = os.fstat(sys.stdout.fileno())
    except OSError:  # no file of the system
        return
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        raise NodeError(
            "standard output is a file that others can read: use a terminal or a pipe, or "
            "chmod 600 the file first"
        )
