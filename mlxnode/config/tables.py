"""The tables of the configuration file, validated by pydantic.

This file declares every table, key, default and range. The shipped ``config.toml`` explains
each key in a comment.
"""

import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mlxnode.config.several import DistributedConfig, SharedLimitsConfig, Strategy
from mlxnode.config.table import Table

ModelType = Literal["chat", "completion", "embedding", "rerank"]
LogLevel = Literal["debug", "info", "warning", "error"]
RequestLogForm = Literal["off", "text", "json"]
MetricsAccess = Literal["off", "admin", "public"]  # who may read /metrics
Backend = Literal["auto", "metal", "ops"]  # the same as kernels.backend.Backend
_KINDS: dict[ModelType, str] = {  # in errors
    "chat": "a chat model",
    "completion": "a completion model",
    "embedding": "an embedding model",
    "rerank": "a reranker",
}


# What a model thinks last when its reasoning reaches the limit. From Qwen3, which is trained
# with it (https://qwen.readthedocs.io/en/latest/getting_started/quickstart.html).
THINKING_BUDGET_MESSAGE = (
    "Considering the limited time by the user, I have to give the solution based on the "
    "thinking directly now."
)


class RateLimits(Table):
    """The rate limits that a table can set. None sets no limit."""

    max_requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    max_tokens_per_minute: Annotated[int, Field(ge=1)] | None = None

    @property
    def has_limits(self) -> bool:
        """True if the table sets any limit."""
        return (self.max_requests_per_minute or self.max_tokens_per_minute) is not None


class ModelConfig(RateLimits):
    """``[api.models.<id>]``: one model, served under the id ``<id>``."""

    path: str  # an MLX or Hugging Face folder, a .gguf file, a hub repo id, or demo/<id>
    type: ModelType
    context_length: Annotated[int, Field(ge=1)] | None = None
    default_temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    matryoshka_dimensions: list[Annotated[int, Field(ge=1)]] | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None  # None: no limit
    thinking_budget_message: str = THINKING_BUDGET_MESSAGE
    # None: as [engine]; 0: not quantized.
    kv_cache_bits: Literal[0, 4, 8] | None = None
    allow_control_tokens: bool | None = None  # None: as [server]
    truncate_inputs: bool = False  # too long ones, of requests that say nothing about them
    allow_bare_token_ids: bool = False  # as inputs, without the tokenizer's special tokens
    preload: bool = True  # when the node starts; False: with the first request
    pin: bool = False  # loaded when the node starts, and never unloaded for another model
    # Seconds without a request before the model is unloaded; None: it stays.
    idle_unload: Annotated[float, Field(gt=0)] | None = None
    # A folder with a LoRA or DoRA adapter of mlx-lm, or a hub repo id.
    adapter: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None
    quantize: Literal[4, 8] | None = None  # the weights, while they are loaded
    strategy: Strategy | None = None  # over several machines; None: as [engine.distributed]

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> "ModelConfig":
        if self.type in ("embedding", "rerank"):
            for name in ("default_temperature", "kv_cache_bits", "adapter", "strategy"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} does not apply to {_KINDS[self.type]}")
        for name in ("thinking_budget", "thinking_budget_message"):
            if self.type != "chat" and name in self.model_fields_set:
                raise ValueError(f"{name} applies to chat models only")
        if self.type != "chat" and self.allow_control_tokens is not None:
            raise ValueError(f"allow_control_tokens does not apply to {_KINDS[self.type]}")
        for name in ("truncate_inputs", "allow_bare_token_ids"):
            if self.type != "embedding" and name in self.model_fields_set:
                raise ValueError(f"{name} does not apply to {_KINDS[self.type]}")
        if self.type != "embedding" and self.dimensions is not None:
            raise ValueError(f"dimensions does not apply to {_KINDS[self.type]}")
        if self.type != "embedding" and self.matryoshka_dimensions is not None:
            raise ValueError(f"matryoshka_dimensions does not apply to {_KINDS[self.type]}")
        return self


class KeyConfig(RateLimits):
    """``[api.keys.<name>]``: one key, with its own limits and models.

    The table holds the key, or the name of a file with the key in a line, or the SHA-256 of the
    key. While a key is replaced, the file holds the old and the new one.
    """

    key: SecretStr | None = None
    key_file: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    models: Annotated[list[str], Field(min_length=1)] | None = None  # None: all models
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0  # lower: served first
    allow_priority: bool = False  # requests may go before those of their own key
    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0  # the share beside other keys

    @model_validator(mode="after")
    def _key_is_given_once(self) -> "KeyConfig":
        if [self.key, self.key_file, self.sha256].count(None) != 2:
            raise ValueError("set one of key, key_file and sha256")
        return self


def _check_origin(origin: str) -> str:
    """An origin in another notation than a browser's would never match."""
    is_default_port = re.fullmatch(r"(http://.+:80|https://.+:443)", origin)
    if is_default_port or not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+", origin):
        raise ValueError(
            'expected "scheme://host" or "scheme://host:port" as browsers send it (lower case, '
            'no path, no default port), or "*" for every origin'
        )
    return origin


_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(\*\.)?\w(?:[\w.-]*\w)?", re.ASCII)


def _check_host(name: str) -> str:
    """A name with a port or a scheme would never match: every port of a name is meant."""
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(
            'expected a host name alone, such as "mini.example.com", or "*.example.com" for '
            "every name below it"
        )
    return name


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


# Claude Code begins its system prompt with this line; its values change in each request.
_BILLING_LINE = r"x-anthropic-billing-header:(?:[ \t]*+[\w-]++=[^\s;]*+;?)*+\s*"


class ApiConfig(RateLimits):
    """``[api]``: the address, the keys, the models, and the limits of every key."""

    enabled: bool = True
    address: str = "127.0.0.1:8080"
    api_key: SecretStr | None = None
    api_key_file: str | None = None
    require_auth: bool = True
    # Names of this node that the machine does not know as its own, where no key is required.
    allowed_hosts: list[Annotated[str, AfterValidator(_check_host)]] = Field(default=[])
    admin_key: SecretStr | None = None
    admin_key_file: str | None = None
    keys: dict[str, KeyConfig] = Field(default={})
    tls_certificate: str | None = None
    tls_key: str | None = None
    cors_enabled: bool = False
    cors_origins: list[Annotated[str, AfterValidator(_check_origin)]] = Field(default=[])
    models: dict[str, ModelConfig] = Field(default={})

    @model_validator(mode="after")
    def _cors_has_origins(self) -> "ApiConfig":
        if self.cors_enabled and not self.cors_origins:
            raise ValueError("cors_enabled = true, but cors_origins is empty")
        return self

    @model_validator(mode="after")
    def _tls_has_both_files(self) -> "ApiConfig":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("set both tls_certificate and tls_key, or neither")
        return self

    @property
    def is_limited(self) -> bool:
        """True if a rate limit can refuse any request."""
        tables = (self, *self.keys.values(), *self.models.values())
        return any(table.has_limits for table in tables)


class DiscoveryConfig(Table):
    """``[server.discovery]``: models that are on the disk, without a table of their own."""

    enabled: bool | None = None  # None: if there is no table [api.models.<id>]
    search: list[str] = Field(
        default=[]
    )  # folders, whose models are in them or one folder below
    huggingface: bool = True  # the cache of the Hugging Face hub
    lm_studio: bool = True  # the folder of LM Studio
    aliases: dict[str, str] = Field(
        default={}
    )  # another name -> id of a model, found or configured
    # Of the models that are found; as idle_unload of a model. 0: they stay.
    idle_unload: Annotated[float, Field(ge=0)] = 3600.0


class BatchesConfig(Table):
    """``[server.batches]``: files and batches, whose work waits for idle moments."""

    enabled: bool = True
    # None: in mlxnode's state folder.
    folder: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None
    max_file_bytes: Annotated[int, Field(ge=1024)] = 200_000_000  # of one upload, as OpenAI
    max_bytes_per_key: Annotated[int, Field(ge=1024)] = 2_000_000_000  # uploads and results
    max_requests: Annotated[int, Field(ge=1)] = 50_000  # lines of one batch, as OpenAI
    max_open_per_key: Annotated[int, Field(ge=1)] = 100  # batches that have not ended
    keep_days: Annotated[float, Field(gt=0)] = 30.0  # files, unless the client says otherwise


class ServerConfig(Table):
    """``[server]``: the HTTP workers. Times in seconds, sizes in bytes."""

    workers: Annotated[int, Field(ge=1, le=64)] | None = None
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    max_connections: Annotated[int, Field(ge=1)] | None = None  # None: from the descriptors
    # None: seven eighths of max_connections.
    max_connections_per_address: Annotated[int, Field(ge=1)] | None = None
    # Of request bodies that a worker holds at once. None: four of the largest.
    max_buffered_bytes: Annotated[int, Field(ge=1024)] | None = None
    max_embedding_tokens: Annotated[int, Field(ge=1)] = 300_000  # in one request, as OpenAI
    strict_fields: bool = False  # refuse undocumented request fields
    # An answer's objects have no other properties than the schema lists, if it says no more.
    closed_objects: bool = True
    request_timeout: Annotated[float, Field(gt=0)] = 60.0  # for receiving a whole request
    keep_alive_timeout: Annotated[float, Field(gt=0)] = 75.0
    write_timeout: Annotated[float, Field(gt=0)] = 90.0  # without a byte that the client takes
    # A stream begins at the latest after this time, before its first token.
    keep_alive_after: Annotated[float, Field(ge=0)] = 8.0
    # Answers of /v1/responses that are kept for each key; 0: none.
    response_store: Annotated[int, Field(ge=0, le=100_000)] = 0
    drain_timeout: Annotated[float, Field(ge=0)] = 30.0
    # Seconds before that, in which balancers that ask /health see that this node ends.
    drain_delay: Annotated[float, Field(ge=0)] = 0.0
    hang_timeout: Annotated[float, Field(ge=2)] = 60.0  # then a silent process is replaced
    require_all_models: bool = False  # end the start if a model cannot be served
    prevent_sleep: bool = True  # of a Mac, while requests run
    # What is removed from the head of system messages, so that their prefixes are found again.
    volatile_prompt_patterns: list[Annotated[str, AfterValidator(_check_pattern)]] = Field(
        default=[_BILLING_LINE]
    )
    allow_control_tokens: bool = False  # in the text of conversations
    # Of every key, over restarts; None: in mlxnode's state folder; "": not kept.
    usage_file: Annotated[str, Field(pattern=r"^[^\x00]*$")] | None = None
    usage_days: Annotated[int, Field(ge=1)] = 400  # the newest ones with usage are kept
    request_log: RequestLogForm = "off"  # a line for each request, without its content
    # None: standard output.
    request_log_file: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None
    log_level: LogLevel = "info"
    page: bool = True  # for people, at /
    metrics: MetricsAccess = "admin"  # at /metrics
    tracing: bool = False  # spans for OpenTelemetry, as its own variables say where
    discovery: DiscoveryConfig = DiscoveryConfig()
    batches: BatchesConfig = BatchesConfig()
    shared_limits: SharedLimitsConfig = SharedLimitsConfig()

    @model_validator(mode="after")
    def _largest_body_can_be_held(self) -> "ServerConfig":
        if self.buffered_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_buffered_bytes must be at least max_body_bytes ({self.max_body_bytes})"
            )
        return self

    @model_validator(mode="after")
    def _request_log_has_a_form(self) -> "ServerConfig":
        if self.request_log_file is not None and self.request_log == "off":
            raise ValueError('request_log_file needs request_log = "text" or "json"')
        return self

    @property
    def buffered_bytes(self) -> int:
        """The bytes of request bodies that a worker holds at once."""
        return self.max_buffered_bytes or 4 * self.max_body_bytes

    @property
    def num_workers(self) -> int:
        """The configured number; else two, or one on fewer than four processors.

        A second worker on so few processors would only take time from the engine.
        """
        return self.workers or (2 if (os.cpu_count() or 1) >= 4 else 1)


class EngineConfig(Table):
    """``[engine]``: batching and memory."""

    max_batch_size: Annotated[int, Field(ge=1, le=512)] = 32
    max_queue_size: Annotated[int, Field(ge=1)] = 512
    memory_gb: Annotated[float, Field(gt=0)] | None = None  # None: what the system recommends
    buffer_cache_gb: Annotated[float, Field(ge=0)] | None = None  # None: 2, or a tenth of that
    wired_memory: Literal["off", "weights"] = "off"
    kv_cache_gb: Annotated[float, Field(gt=0)] | None = None  # None: from the free memory
    prefix_cache_gb: Annotated[float, Field(ge=0)] | None = None  # None: a quarter of that
    snapshot_cache_gb: Annotated[float, Field(ge=0)] | None = None  # None: a quarter of that
    prefix_cache_disk_gb: Annotated[float, Field(ge=0)] = 0.0  # 0: in memory only
    kv_cache_bits: Literal[4, 8] | None = None  # None: not quantized
    num_speculative_tokens: Annotated[int, Field(ge=0, le=32)] = 8  # 0: none
    prefill_stall_ms: Annotated[int, Field(ge=1)] = 25
    embedding_batch_tokens: Annotated[int, Field(ge=1)] = 4096
    kernels: Backend = "auto"
    distributed: DistributedConfig | None = None  # None: one machine

    def for_model(self, kv_cache_bits: Literal[0, 4, 8] | None) -> "EngineConfig":
        """The settings of one model, whose own table sets ``kv_cache_bits`` or not."""
        if kv_cache_bits is None:
            return self
        return self.model_copy(update={"kv_cache_bits": kv_cache_bits or None})


class NodeConfig(Table):
    """The whole file."""

    api: ApiConfig = ApiConfig()
    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()

    def without_secrets(self) -> "NodeConfig":
        """The same without any key: for the processes that need none."""
        keys = {
            name: table.model_copy(update={"key": None})
            for name, table in self.api.keys.items()
        }
        api = self.api.model_copy(update={"api_key": None, "admin_key": None, "keys": keys})
        shared = self.server.shared_limits.model_copy(update={"redis": None})
        server = self.server.model_copy(update={"shared_limits": shared})
        return self.model_copy(update={"api": api, "server": server})
