"""What the node prints when it is ready."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mlxnode import __version__
from mlxnode.config.certificate import names_of
from mlxnode.config.file import LoadedConfig
from mlxnode.config.keys import EXAMPLE_KEY, readable_keys
from mlxnode.models.served import ServedModel

_MOST_LINES = 10  # of models, and of those that failed


def ready_text(
    url: str,
    models: Sequence[ServedModel],
    failed: Mapping[str, str],
    loaded: LoadedConfig,
    program: str = "mlxnode",
) -> str:
    """The address, the models, and a request to try, for the user who started the server.

    ``failed`` has the models that are not served, by id, each with the reason. ``program`` is
    how this user calls mlxnode in a shell.
    """
    models = [model for model in models if model.id not in failed]
    lines = [f"mlxnode {__version__} is ready at {url}/v1"]
    lines += _model_lines(models)
    lines += _shortened([f"  {id} FAILED: {reason}" for id, reason in failed.items()])
    if loaded.config.server.page:
        lines.append(f"In a browser: {_page_url(url, loaded)}")
    if models:
        lines += _trial(url, _model_to_try(models), loaded, program)
    return "\n".join(lines)


def _page_url(url: str, loaded: LoadedConfig) -> str:
    """The address of the page, as a browser of this machine reaches it.

    With a certificate it is a name that the certificate has, if it has any.
    """
    parts = urlsplit(url)
    host, netloc = parts.hostname or "", parts.netloc
    if host in ("0.0.0.0", "::"):
        host, netloc = "localhost", f"localhost:{parts.port}"
    names = names_of(loaded.certificate) if loaded.certificate is not None else ()
    if host not in names and (name := next((n for n in names if "*" not in n), None)):
        netloc = f"{name}:{parts.port}"
    return parts._replace(netloc=netloc, path="/").geturl()


def _model_lines(models: Sequence[ServedModel]) -> list[str]:
    """The loaded models first."""
    ordered = sorted(models, key=lambda model: not _is_loaded(model))
    return _shortened([_model_line(model) for model in ordered])


def _model_line(model: ServedModel) -> str:
    facts = f"{model.type}, {model.context_length} tokens"
    return f"  {model.id} ({facts}{'' if _is_loaded(model) else ', loaded when asked for'})"


def _is_loaded(model: ServedModel) -> bool:
    return model.preload or model.is_pinned


def _shortened(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    if len(lines) <= _MOST_LINES + 1:
        return lines
    return [*lines[:_MOST_LINES], f"  and {len(lines) - _MOST_LINES} more: mlxnode models"]


def _model_to_try(models: Sequence[ServedModel]) -> ServedModel:
    """A model that generates text, one that is loaded already if there is one."""
    return min(models, key=lambda m: (not m.generates_text, not _is_loaded(m)))


def _trial(url: str, model: ServedModel, loaded: LoadedConfig, program: str) -> list[str]:
    """A command that works when it is pasted into a shell of this user."""
    path, body = _request(model)
    header, note = _key_header(model.id, loaded, program)
    words = ["curl", *_reach(f"{url}/v1/{path}", loaded), *header]
    words += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(json.dumps(body))}"]
    return [f"Try it{note}:", f"  {' '.join(words)}"]


def _request(model: ServedModel) -> tuple[str, dict[str, object]]:
    """The path and the body."""
    match model.type:
        case "embedding":
            return "embeddings", {"model": model.id, "input": "Hello!"}
        case "rerank":
            documents = ["Hello!", "Bye!"]
            return "rerank", {"model": model.id, "query": "Hello?", "documents": documents}
        case "chat":
            messages = [{"role": "user", "content": "Hello!"}]
            return "chat/completions", {"model": model.id, "messages": messages}
        case _:
            return "completions", {"model": model.id, "prompt": "Once upon a time"}


def _key_header(model: str, loaded: LoadedConfig, program: str) -> tuple[list[str], str]:
    """The option with a key that may use ``model``, and a note on it.

    No key is printed but the example's: this text may go into a log. The shell asks for it.
    """
    api = loaded.config.api
    if not api.require_auth:
        return [], ""
    keys = readable_keys(api, loaded.folder, os.environ)
    key = next((key for key in keys if key.may_use(model)), None)
    note = ""
    if key is None:
        text = "$MLXNODE_API_KEY"
        note = ", with your key in $MLXNODE_API_KEY (the configuration has its digest only)"
    elif key.key == EXAMPLE_KEY:
        text = EXAMPLE_KEY
    elif key.source.startswith("$"):
        text = key.source
    else:
        config = f" --config {shlex.quote(str(loaded.file.absolute()))}" if loaded.file else ""
        text = f"$({program} key{f' {key.name}' if key.name else ''}{config})"
    return [f'-H "Authorization: Bearer {text}"'], note


def _reach(url: str, loaded: LoadedConfig) -> list[str]:
    """The URL as curl reaches it from this machine, with the options for its certificate."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    netloc = f"[{local}]:{port}" if ":" in local else f"{local}:{port}"
    api = loaded.config.api
    if loaded.certificate is None or api.tls_certificate is None:
        return [shlex.quote(parts._replace(netloc=netloc).geturl())]
    file = (loaded.folder / Path(api.tls_certificate).expanduser()).absolute()
    options = [f"--cacert {shlex.quote(str(file))}"]
    names = names_of(loaded.certificate)
    if local not in names and (name := next((n for n in names if "*" not in n), None)):
        options.append(f"--connect-to {shlex.quote(f'{name}:{port}:{netloc}')}")
        netloc = f"{name}:{port}"
    return [*options, shlex.quote(parts._replace(netloc=netloc).geturl())]
