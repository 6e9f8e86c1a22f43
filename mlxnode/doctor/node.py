"""The configuration, the models on disk, and the address."""

import http.client
import json
import socket
from pathlib import Path

from mlxnode.config.file import LoadedConfig, load_config
from mlxnode.config.tables import ModelConfig, NodeConfig
from mlxnode.doctor.commands import output_of
from mlxnode.doctor.findings import Finding, Section, gigabytes
from mlxnode.doctor.shared_limits import check_shared_limits
from mlxnode.errors import ConfigError, ModelError
from mlxnode.models.discovery.complete import complete
from mlxnode.models.files import find_files
from mlxnode.models.fit import Weighed
from mlxnode.models.resolve import ListedModel, list_models
from mlxnode.process.weigh import weigh

_TIMEOUT = 1.0  # seconds for a program that holds the address to answer


def check_node(path: Path | None) -> tuple[Section, LoadedConfig | None]:
    """The checks of the configuration at ``path``, which is returned if it is valid."""
    try:
        loaded = complete(load_config(path))
    except ConfigError as error:
        finding = Finding("configuration", "fail", str(error), "correct the file")
        return Section("Node", [finding]), None
    finding = Finding("configuration", "ok", loaded.where)
    where = address(loaded.host, loaded.port)
    shared = check_shared_limits(loaded.config.server.shared_limits)
    found = [finding, *models(loaded.config, loaded.folder), where, *shared]
    return Section("Node", found), loaded


def models(config: NodeConfig, folder: Path) -> list[Finding]:
    """One finding for each configured model. Fetches nothing."""
    if not config.api.models:
        advice = "add a table [api.models.<id>]"
        return [Finding("models", "fail", "no model is configured", advice)]
    listed = list_models(config, folder=folder)
    fits = weigh([served for _, served in listed if served is not None], config.engine)
    return [_model(row, fits.get(row.id), config.api.models[row.id]) for row, _ in listed]


def _model(model: ListedModel, fit: Weighed | None, table: ModelConfig) -> Finding:
    name = f"model {model.id}"
    if model.on_disk == "no":
        text = f"{model.path} is not on disk; `mlxnode serve` fetches it, if it can"
        return Finding(name, "warn", text, "check the path, or the network")
    if fit is None:
        return Finding(name, "fail", model.on_disk, f"see path = {model.path!r}")
    if not fit.fits and not table.preload:  # found on the disk: nobody said that it must
        return Finding(name, "warn", fit.text, "requests for it are refused")
    if not fit.fits:
        return Finding(name, "fail", fit.text, "the node will serve the other models")
    return Finding(
        name, "ok", f"{model.type}, {model.size}, context {model.context}; {fit.text}"
    )


def weights_on_disk(loaded: LoadedConfig) -> int:
    """The bytes of the weights that are loaded at the start and are on disk, each file once."""
    files: set[Path] = set()
    for model in loaded.config.api.models.values():
        if not (model.preload or model.pin):
            continue
        try:
            found = find_files(model.path, loaded.folder, model.adapter)
        except ModelError:
            continue
        files |= set(found.weight_files if found else [])
    return sum(file.stat().st_size for file in files)


def memory(weights: int, total: int) -> Finding:
    """Whether the weights leave memory for anything else."""
    text = f"{gigabytes(weights)} of weights on disk, {gigabytes(total)} of memory to use"
    if weights > total:
        return Finding("memory", "fail", text, "serve fewer or smaller models")
    if weights > 0.9 * total:
        return Finding("memory", "warn", text, "little is left for KV caches")
    return Finding("memory", "ok", text)


def address(host: str, port: int) -> Finding:
    """Whether a node can listen at the address, or who does already."""
    if port == 0:
        return Finding("address", "ok", f"{host}, any free port")
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((target, port), timeout=_TIMEOUT):
            pass
    except ConnectionRefusedError:
        return Finding("address", "ok", f"{host}:{port} is free")
    except OSError as error:
        text = f"{host}:{port} cannot be reached: {error.strerror or error}"
        return Finding("address", "warn", text, "check api.address")
    if _is_node(target, port):
        return Finding("address", "ok", f"a node serves at {host}:{port}{_holder(port)}")
    text = f"{host}:{port} is in use by another program{_holder(port)}"
    return Finding("address", "fail", text, "end that program, or choose another api.address")


def _is_node(host: str, port: int) -> bool:
    """True if what listens there answers as a node does."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(65_536))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and not {"engine", "error"}.isdisjoint(answer)


def _holder(port: int) -> str:
    """The command and the pid of who listens on the port, if lsof is there and may say."""
    lines = (output_of("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc") or "").split(
        "\n"
    )
    fields = {line[0]: line[1:] for line in reversed(lines) if line}
    if "p" not in fields:
        return ""
    return f" ({fields.get('c', 'unknown')}, pid {fields['p']})"
