"""A configured model that is ready to be loaded, with the facts that every process needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlxnode.config.several import Strategy
from mlxnode.config.tables import THINKING_BUDGET_MESSAGE, ModelType


@dataclass(frozen=True)
class ServedModel:
    """One configured model, with its files on disk and the facts read from them.

    ``folder`` holds config.json and the tokenizer's files. ``weights`` is the same folder
    (safetensors) or a ``.gguf`` file. ``context_length`` is in tokens: the configured value,
    else the model's own. ``dimensions`` is the vector size that an embedding model is served
    with. ``matryoshka`` holds the sizes that a request can have the vector truncated to.
    ``thinking_budget`` is in tokens, for requests that set none.
    """

    id: str
    type: ModelType
    folder: Path
    weights: Path
    architecture: str  # config.json's model_type
    context_length: int
    dimensions: int | None  # None: not an embedding model
    default_temperature: float | None
    size_bytes: int  # of the weights on disk
    created: int  # Unix seconds, from the weights' modification time
    matryoshka: tuple[int, ...] = ()
    has_configured_context: bool = False
    kv_cache_bits: Literal[0, 4, 8] | None = None  # as in its table of the configuration
    thinking_budget: int | None = None  # None: no limit
    thinking_budget_message: str = THINKING_BUDGET_MESSAGE
    allow_control_tokens: bool | None = None  # the same; None: as [server]
    truncate_inputs: bool = False  # of embeddings, where the request says nothing
    allow_bare_token_ids: bool = False  # the same: without the tokenizer's special tokens
    preload: bool = True  # loaded when the node starts; False: with the first request
    is_pinned: bool = False  # loaded when the node starts, and never unloaded for another model
    idle_unload: float | None = None  # seconds without a request until it is unloaded
    adapter: Path | None = None  # a folder with a LoRA or DoRA adapter of mlx-lm
    quantize: Literal[4, 8] | None = None  # bits of the weights, made while they are loaded
    strategy: Strategy | None = None  # over several machines; None: as [engine.distributed]

    @property
    def weights_key(self) -> tuple[Path, Path | None, int | None]:
        """Models with the same key have the same weights in memory."""
        return self.weights, self.adapter, self.quantize

    @property
    def base_key(self) -> tuple[Path, int | None]:
        """Models with the same key have the same weights below their adapters."""
        return self.weights, self.quantize

    @property
    def generates_text(self) -> bool:
        """False for the types whose answers are numbers."""
        return self.type in ("chat", "completion")
