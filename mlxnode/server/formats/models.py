"""The models of this server: the answers of ``/v1/models``, and the body that loads one."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from mlxnode.server.formats.body import Body


class Fit(Struct):
    """Whether the model fits into the memory of this machine, if it is loaded alone."""

    short: str  # a few words
    text: str
    fits: bool


class Model(Struct):
    """A model: OpenAI's fields, and fields that other servers have."""

    id: str
    created: int
    type: Literal["chat", "completion", "embedding", "rerank"]
    status: Literal["loaded", "unloaded", "loading", "unloading", "failed"]
    reason: str | UnsetType = UNSET  # why it failed
    aliases: list[str] = []  # other names that requests may use
    pinned: bool = False  # it is unloaded for no other model
    context_length: int | UnsetType = UNSET  # not set if its files could not be read
    max_model_len: int | UnsetType = UNSET  # the context length, by vLLM's name
    dimensions: int | UnsetType = UNSET
    size_bytes: int | UnsetType = UNSET  # of the weights on the disk
    quantization: str | UnsetType = UNSET  # 4-bit, mxfp4, Q4_K_M
    adapter: str | UnsetType = UNSET  # the name of its folder
    fit: Fit | UnsetType = UNSET  # not set until it is known
    owned_by: str = "mlxnode"
    object: Literal["model"] = "model"


class ModelList(Struct):
    data: list[Model]
    object: Literal["list"] = "list"


class LoadBody(Body):
    """Whether the model stays loaded whatever other models need; null: as it was."""

    pin: bool | None = None


class UnloadBody(Body):
    """An object without fields."""
