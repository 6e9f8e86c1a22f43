"""The configuration: ``config.toml``, validated by pydantic.

Every table, key, default and range is declared here; the shipped ``config.toml`` explains
each in a comment.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

ModelType = Literal["chat", "completion", "embedding"]


class Table(BaseModel):
    """A TOML table: no key that is not declared, nothing converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelConfig(Table):
    """``[api.models.<id>]``: one model, served under the name ``<id>``."""

    path: str  # an MLX or Hugging Face folder, a .gguf file, a hub repo id, or demo/<id>
    type: ModelType
    context_length: Annotated[int, Field(ge=1)] | None = None
    default_temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> "ModelConfig":
        if self.type == "embedding" and self.default_temperature is not None:
            raise ValueError("default_temperature does not apply to an embedding model")
        if self.type != "embedding" and self.dimensions is not None:
            raise ValueError(f"dimensions does not apply to a {self.type} model")
        return self


class ApiConfig(Table):
    """``[api]``: what is served, to whom, and how much of it."""

    enabled: bool = True
    address: str = "127.0.0.1:8080"
    api_key: SecretStr | None = None
    api_key_file: str | None = None
    require_auth: bool = True
    max_requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    max_tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    cors_enabled: bool = False
    cors_origins: list[str] = []
    models: dict[str, ModelConfig] = {}


class ServerConfig(Table):
    """``[server]``: the HTTP workers. Times in seconds, sizes in bytes."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    request_timeout: Annotated[float, Field(gt=0)] = 60.0  # to receive a whole request
    keep_alive_timeout: Annotated[float, Field(gt=0)] = 75.0
    drain_timeout: Annotated[float, Field(ge=0)] = 30.0
    hang_timeout: Annotated[float, Field(ge=2)] = 60.0  # a child silent for longer is replaced
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class EngineConfig(Table):
    """``[engine]``: batching and memory."""

    max_batch_size: Annotated[int, Field(ge=1, le=512)] = 32
    max_queue_size: Annotated[int, Field(ge=1)] = 512
    kv_cache_gb: Annotated[float, Field(gt=0)] | None = (
        None  # default: from the memory there is
    )
    prefill_stall_ms: Annotated[int, Field(ge=1)] = 100
    embedding_batch_tokens: Annotated[int, Field(ge=1)] = 4096
    kernels: Literal["auto", "metal", "ops"] = "auto"


class NodeConfig(Table):
    """The whole file."""

    api: ApiConfig = ApiConfig()
    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()
