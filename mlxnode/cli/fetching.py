"""Fetches the model of a command that no node has and that is not on the disk."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlxnode.cli.output import say

if TYPE_CHECKING:
    from mlxnode.client.connect import Wanted


def fetch_missing(node: "Wanted", model: str | None) -> None:
    """Do as ``mlxnode pull`` with a repository of the hub that is needed and not here yet.

    Raises:
        ModelError: it cannot be fetched, or does not fit and the user does not want it.
    """
    if model is None or node.url is not None or node.address is not None:
        return
    from mlxnode.models.hub import find_in_cache, is_repository_id

    if model.startswith("demo/") or Path(model).expanduser().exists():
        return
    if not is_repository_id(model) or find_in_cache(model) or _is_offered(node, model):
        return
    from mlxnode.cli.pull import pull

    say(f"{model} is not on this machine: fetching it")
    config = [] if node.config is None else ["--config", str(node.config)]
    # Standard output is for the answer of the model.
    with (
        contextlib.redirect_stdout(sys.stderr),
        pull.make_context("pull", [model, *config]) as context,
    ):
        pull.invoke(context)


def _is_offered(node: "Wanted", model: str) -> bool:
    """True if the node that runs has the model, or the configuration."""
    from mlxnode.client.choosing import find
    from mlxnode.client.requests import Client
    from mlxnode.errors import RequestError

    endpoint, loaded = node.endpoint()
    if loaded is not None and model in loaded.config.api.models:
        return True
    try:
        with Client(endpoint) as client:
            return find(client.models(), model) is not None
    except RequestError:
        return False
