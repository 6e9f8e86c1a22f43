"""A model that is ready to be loaded, as every process sees it."""

from dataclasses import dataclass
from pathlib import Path

from mlxnode.config.tables import ModelType


@dataclass(frozen=True)
class ServedModel:
    """One registered model, resolved: files on disk and the facts read from them.

    ``folder`` holds config.json and the tokenizer's files. ``weights`` is the same folder
    (safetensors) or a ``.gguf`` file. ``context_length`` is in tokens: the configured one,
    else the model's own. ``dimensions`` is the vector size served by an embedding model,
    ``matryoshka`` the sizes that a request may have it cut to.
    """

    id: str
    type: ModelType
    folder: Path
    weights: Path
    architecture: str  # config.json's model_type
    context_length: int
    dimensions: int | None
    default_temperature: float | None
    size_bytes: int  # of the weights on disk
    created: int  # Unix seconds, from the weights' modification time
    matryoshka: tuple[int, ...] = ()
