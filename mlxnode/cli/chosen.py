"""The models that the command line names, instead of those of the configuration."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlxnode.cli.output import say
from mlxnode.cli.progress import download_bar
from mlxnode.config.demo import demo_models
from mlxnode.config.file import LoadedConfig
from mlxnode.config.tables import ModelConfig
from mlxnode.errors import ModelError
from mlxnode.models import hub
from mlxnode.models.discovery.kinds import check_gguf, kind_of_folder, kind_of_gguf
from mlxnode.models.files import fetch_files

_DEMO = "demo/"


def choose(loaded: LoadedConfig, names: Sequence[str]) -> LoadedConfig:
    """``loaded`` with the models that ``names`` mean, and no other.

    A name is an id or an alias of ``loaded``, a demo model, a folder or a .gguf file, or a
    repository of the Hugging Face hub, which is downloaded if it is not there.

    Raises:
        ModelError: a name means no model, or its files cannot be served.
    """
    models: dict[str, ModelConfig] = {}
    for name in names:
        try:
            id, table = _find(loaded, name)
        except ModelError as error:
            text = str(error)
            raise ModelError(text if text.startswith(name) else f"{name}: {text}") from error
        if id in models and models[id] != table:
            raise ModelError(f"{name}: another model is called {id}")
        models[id] = table
    api = loaded.config.api.model_copy(update={"models": models})
    return replace(
        loaded,
        config=loaded.config.model_copy(update={"api": api}),
        aliases={alias: id for alias, id in loaded.aliases.items() if id in models},
        found=frozenset(),
        skipped=(),
        is_discovering=False,
    )


def _find(loaded: LoadedConfig, name: str) -> tuple[str, ModelConfig]:
    """The id and the table of the model that ``name`` means; it is loaded at the start."""
    known = loaded.config.api.models
    if (id := loaded.aliases.get(name, name)) in known:
        table = known[id].model_copy(update={"preload": True})
        # That of [server.discovery] is for models that nobody named.
        return id, table.model_copy(
            update={"idle_unload": None}
        ) if id in loaded.found else table
    demo = demo_models()
    if (id := name.removeprefix(_DEMO)) in demo:
        return id, demo[id]
    path = Path(name).expanduser()
    if path.exists():
        return _id_of(path), _table_of(path.absolute())
    if hub.is_repository_id(name):
        folder = fetch_files(name, Path.cwd(), say, meter=download_bar).folder
        return name, ModelConfig(path=name, type=kind_of_folder(folder, name))
    names = [*known, *loaded.aliases, *demo]
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else "see mlxnode models"
    raise ModelError(f"no id, no folder, no .gguf file and no repository; {hint}")


def _id_of(path: Path) -> str:
    path = path.absolute()
    return path.stem if path.suffix == ".gguf" else path.name


def _table_of(path: Path) -> ModelConfig:
    """The table of the files at ``path``.

    Raises:
        ModelError: they are no model that can be served.
    """
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{path}: there is no config.json in this folder")
        return ModelConfig(path=str(path), type=kind_of_folder(path, path.name))
    if path.suffix != ".gguf":
        raise ModelError(f"{path}: expected a folder or a .gguf file")
    check_gguf(path)
    return ModelConfig(path=str(path), type=kind_of_gguf(fetch_files(str(path), path, say)))
