"""The response bodies of ``/v1/models``, ``/health`` and ``/``."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class Model(Struct):
    """A model: OpenAI's fields, and fields that other servers have."""

    id: str
    created: int
    type: Literal["chat", "completion", "embedding", "rerank"]
    status: Literal["ready", "failed"] = "ready"
    reason: str | UnsetType = UNSET  # why it failed
    context_length: int | UnsetType = UNSET  # not set if its files could not be read
    max_model_len: int | UnsetType = UNSET  # the context length, by vLLM's name
    dimensions: int | UnsetType = UNSET
    owned_by: str = "mlxnode"
    object: Literal["model"] = "model"


class ModelList(Struct):
    data: list[Model]
    object: Literal["list"] = "list"


class Health(Struct):
    status: Literal["ok"]
    engine: Literal["ok"]
    failed_models: list[str]  # configured, but not served; /v1/models has the reasons


class Root(Struct):
    name: Literal["mlxnode"] = "mlxnode"
    documentation: str = "/openapi.json"
