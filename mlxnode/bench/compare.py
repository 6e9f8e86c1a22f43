"""Which servers are compared for a model, and with which names for it."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlxnode.bench.servers import MLX_LM_SERVER, MLXNODE, BenchError, Server, run_mlx_lm_server
from mlxnode.client.choosing import choose, find
from mlxnode.client.endpoint import Endpoint, endpoint_of_url
from mlxnode.client.requests import Client, Model
from mlxnode.errors import ModelError
from mlxnode.models.files import find_files


def this_node(endpoint: Endpoint, model: str) -> Server:
    """The node of the command line."""
    return Server(MLXNODE, endpoint.url, model, endpoint=endpoint)


def other_servers(urls: Sequence[str], model: Model, key: str | None) -> list[Server]:
    """The servers at ``urls``, each with the same model if it has it, else with its first one.

    Raises:
        RequestError: one does not answer.
        ConfigError: one is no URL.
    """
    servers = []
    for url in urls:
        endpoint = endpoint_of_url(url, key, {})
        with Client(endpoint) as client:
            models = client.models()
        same = find(models, model.id)
        chosen = same or choose(_as_one_type(models, model.type), None, [model.type])
        servers.append(Server(endpoint.url, endpoint.url, chosen.id, endpoint=endpoint))
    return servers


def _as_one_type(models: list[Model], type: str) -> list[Model]:
    """Another server does not tell the types."""
    is_known = any(model.type != "chat" for model in models)
    return models if is_known else [Model(model.id, type) for model in models]


@contextlib.contextmanager
def mlx_lm_server(path: str, base: Path) -> Iterator[Server]:
    """mlx_lm.server, started on the files at ``path``, which may be relative to ``base``.

    Raises:
        BenchError: it cannot read them, or does not start.
    """
    folder = _folder(path, base)
    with run_mlx_lm_server(folder) as (url, _):
        yield Server(MLX_LM_SERVER, url, str(folder))


def _folder(path: str, base: Path) -> Path:
    try:
        files = find_files(path, base)
    except ModelError as error:
        raise BenchError(f"--mlx-lm: {path}: {error}") from error
    if files is None:
        raise BenchError(f"--mlx-lm: {path}: its files are not on this machine")
    if any(file.suffix == ".gguf" for file in files.weight_files):
        raise BenchError(f"--mlx-lm: {path} is a GGUF file, which mlx_lm.server cannot read")
    return files.folder
