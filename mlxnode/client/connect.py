"""From the command line to a node and a model of it: one that runs, or one of the command."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxnode.client.choosing import choose, find
from mlxnode.client.endpoint import Endpoint, endpoint_of_config, endpoint_of_url
from mlxnode.client.private_node import PrivateNode
from mlxnode.client.requests import Client, Model
from mlxnode.config.file import LoadedConfig, load_config
from mlxnode.errors import ConfigError, RequestError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """The node that the command line asks for; None: that of the configuration."""

    url: str | None = None
    address: str | None = None
    key: str | None = None
    config: Path | None = None

    def endpoint(self) -> tuple[Endpoint, LoadedConfig | None]:
        """Where the node is, and the configuration if it says so.

        Raises:
            ConfigError: an option or the configuration is wrong.
        """
        if self.url is None:
            loaded = load_config(self.config)
            found = endpoint_of_config(loaded, os.environ, address=self.address, key=self.key)
            return found, loaded
        if self.address is not None:
            raise ConfigError("--url and --address: give one of them")
        return endpoint_of_url(self.url, self.key, os.environ), None


class Connection:
    """A client of a node and its model, of one of ``types``. The end of the block closes it.

    If no node answers, or the one that does has no such model, a node is started for the
    command, unless the command line names the node. ``say`` hears how far it is.
    """

    def __init__(self, wanted: Wanted, model: str | None, types: Sequence[str], say: Say):
        self._wanted = wanted
        self._types = types
        self._say = say
        self._private: PrivateNode | None = None
        self._closing = contextlib.ExitStack()
        self.client, self.model = self._connect(model)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def choose(self, id: str) -> Model:
        """Another model of the same node.

        Raises:
            RequestError: the node has no such model of these types.
        """
        self.model = choose(self.client.models(), id, self._types)
        return self.model

    def revive(self, say: Say) -> None:
        """Start the command's own node again if it has ended."""
        if self._private is None or self._private.is_running:
            return
        self._say = say
        say("the node has ended; starting another one")
        self._start(self._private, self.model.id)

    def _connect(self, wanted: str | None) -> tuple[Client, Model]:
        endpoint, loaded = self._wanted.endpoint()
        client = self._closing.enter_context(Client(endpoint))
        try:
            models = client.models()
        except RequestError as error:
            if error.status is not None or endpoint.is_named or loaded is None:
                raise
            return self._own_node(wanted, endpoint)
        is_offered = wanted is None or find(models, wanted) is not None
        if not is_offered and not endpoint.is_named and is_a_source(wanted or ""):
            self._say(f"the node at {endpoint.url} does not have {wanted}")
            return self._own_node(wanted, endpoint)
        return client, choose(models, wanted, self._types)

    def _own_node(self, wanted: str | None, endpoint: Endpoint) -> tuple[Client, Model]:
        arguments = [] if wanted is None else [wanted]
        if self._wanted.config is not None:
            arguments += ["--config", str(self._wanted.config)]
        self._private = PrivateNode(arguments, endpoint.certificate)
        self._closing.callback(self._private.close)
        self._start(self._private, wanted)
        return self.client, self.model

    def _start(self, node: PrivateNode, wanted: str | None) -> None:
        client = self._closing.enter_context(Client(node.start(self._say)))
        models = client.models()
        # A path has another id.
        id = wanted if wanted is not None and find(models, wanted) else None
        self.client, self.model = client, choose(models, id, self._types)


def is_a_source(model: str) -> bool:
    """True if ``model`` says where its files are: a path, or a repository of the hub."""
    return "/" in model or model.endswith(".gguf") or Path(model).expanduser().exists()
