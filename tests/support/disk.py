"""The places where models are looked for, in a folder of a test."""

import json
from pathlib import Path

from support import tiny
from support.gguf_files import CASES, make_model, write_model

from mlxnode.config.file import LoadedConfig, load_config
from mlxnode.models.discovery.complete import complete
from mlxnode.models.discovery.find import Found, find_models


def make_models(folder: Path) -> Path:
    """One model of each type, to copy from: four folders and a GGUF file."""
    tiny.make_chat_model(folder / "chat")
    tiny.make_embedding_model(folder / "embedding")
    tiny.make_cross_encoder(folder / "rerank")
    plain = tiny.make_chat_model(folder / "completion")
    change(plain / "tokenizer_config.json", chat_template=None)
    case = CASES["qwen3"]
    source, config = make_model(case, folder / "source")
    tiny.make_tokenizer(folder / "tokenizer")
    write_model(folder / "m.gguf", case, source, config, folder / "tokenizer")
    return folder


def change(file: Path, **values: object) -> None:
    """Set keys of a JSON file; None removes one."""
    old = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in old.items() if value is not None}))


class Disk:
    """The places where models are looked for, empty at first."""

    def __init__(self, folder: Path, models: Path):
        self.folder = folder
        self.search = folder / "search"
        self.hub = folder / "hub"
        self.lm_studio = folder / "home/.lmstudio/models"
        self.search.mkdir()
        self._models = models
        self.config = folder / "config.toml"

    def put(self, kind: str, place: Path) -> Path:
        """A copy of a model."""
        source = self._models / kind
        if source.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read_bytes())
            return place
        for file in source.rglob("*"):
            if file.is_file():
                target = place / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return place

    def put_in_hub(self, kind: str, repository: str, revision: str = "abc") -> Path:
        """A repository whose main is ``revision``; returns its folder."""
        folder = self.hub / f"models--{repository.replace('/', '--')}"
        self.put(kind, folder / "snapshots" / revision)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs/main").write_text(revision)
        (folder / "blobs").mkdir(exist_ok=True)
        return folder

    def load(self, table: str = "", rest: str = "", api: str = "") -> LoadedConfig:
        self.config.write_text(
            f"[api]\nrequire_auth = false\n{api}\n{rest}\n[server.discovery]\n"
            f"search = ['search']\n{table}"
        )
        self.config.chmod(0o600)
        return complete(load_config(self.config, environ={}))

    def found(self, **arguments: object) -> Found:
        discovery = load_config(self.config, environ={}).config.server.discovery
        return find_models(discovery, self.folder, **arguments)


def types_of(loaded: LoadedConfig) -> dict[str, str]:
    return {id: model.type for id, model in loaded.config.api.models.items()}


def reasons_of(loaded: LoadedConfig) -> dict[str, str]:
    return {skipped.path.name: skipped.reason for skipped in loaded.skipped}
