"""The families of /metrics: names, types, labels and buckets, as data.

The names have the prefix ``mlxnode_`` and base units, and those of counters end with
``_total``. ``docs/monitoring.md`` lists them; a test compares both.
"""

from typing import Literal, NamedTuple

Type = Literal["counter", "gauge", "histogram", "info"]

# Seconds.
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_WHOLE = (0.005, *_LONG, 600.0, 1800.0)
_WAIT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_STEP = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
)
# Tokens. The first bucket of a prefix is the prompts that found none.
_LENGTH = (8, 32, 128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_DEPTH = (0, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_SHARE = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


class Family(NamedTuple):
    """One family. ``name`` is without the suffixes that its type adds."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def written(self) -> str:
        """The name as it is written in queries, but for the suffixes of a histogram."""
        suffixes: dict[Type, str] = {"counter": "_total", "info": "_info"}
        return self.name + suffixes.get(self.type, "")


_MODEL = ("model",)
_BY_KEY = ("model", "key")

# --- counted by the workers; they outlive a worker, not the node ---------------------

REQUESTS = Family(
    "mlxnode_requests",
    "counter",
    "Requests that ended",
    ("route", "method", "status", "outcome", "model", "key"),
)
REFUSALS = Family("mlxnode_refusals", "counter", "Errors sent, by their code", ("reason",))
DURATION = Family(
    "mlxnode_request_duration_seconds",
    "histogram",
    "From the head of a request to the end of its answer",
    ("route", "model"),
    _WHOLE,
)
PREPARATION = Family(
    "mlxnode_preparation_seconds",
    "histogram",
    "From the head of a request until the engine was asked",
    _MODEL,
    _SHORT,
)
QUEUE = Family(
    "mlxnode_queue_seconds", "histogram", "Until the engine began to compute", _MODEL, _WAIT
)
PREFILL = Family(
    "mlxnode_prefill_seconds", "histogram", "From then to the first output", _MODEL, _LONG
)
FIRST_TOKEN = Family(
    "mlxnode_time_to_first_token_seconds",
    "histogram",
    "From the head of a request to its first token",
    _MODEL,
    _LONG,
)
INTER_TOKEN = Family(
    "mlxnode_inter_token_latency_seconds",
    "histogram",
    "Between two tokens of a sequence",
    _MODEL,
    _STEP,
)
PROMPT_TOKENS = Family(
    "mlxnode_prompt_tokens", "counter", "Tokens of prompts of requests that ended", _BY_KEY
)
CACHED_TOKENS = Family(
    "mlxnode_cached_tokens", "counter", "Prompt tokens from the prefix cache", _BY_KEY
)
GENERATED_TOKENS = Family(
    "mlxnode_generated_tokens", "counter", "Tokens generated for requests that ended", _BY_KEY
)
PROMPT_LENGTH = Family(
    "mlxnode_request_prompt_tokens", "histogram", "Prompt tokens of a request", _MODEL, _LENGTH
)
ANSWER_LENGTH = Family(
    "mlxnode_request_generated_tokens", "histogram", "Tokens of an answer", _MODEL, _LENGTH
)
PREFIX_DEPTH = Family(
    "mlxnode_cached_prefix_tokens",
    "histogram",
    "Prompt tokens of a request from the prefix cache",
    _MODEL,
    _DEPTH,
)
PREFIX_SHARE = Family(
    "mlxnode_cached_prefix_ratio",
    "histogram",
    "Part of a prompt from the prefix cache",
    _MODEL,
    _SHARE,
)
KEEP_ALIVES = Family("mlxnode_keep_alives", "counter", "Keep-alives written to silent streams")

COUNTED = (
    *(REQUESTS, REFUSALS, DURATION, PREPARATION, QUEUE, PREFILL, FIRST_TOKEN, INTER_TOKEN),
    *(PROMPT_TOKENS, CACHED_TOKENS, GENERATED_TOKENS, PROMPT_LENGTH, ANSWER_LENGTH),
    *(PREFIX_DEPTH, PREFIX_SHARE, KEEP_ALIVES),
)

# --- the figures of the node ----------------------------------------------------------

FIGURES_UP = Family("mlxnode_figures_up", "gauge", "1 if the supervisor told its figures")
BUILD = Family("mlxnode_build", "info", "The version", ("version",))
UPTIME = Family("mlxnode_uptime_seconds", "gauge", "Since the start of the node")
DRAINING = Family("mlxnode_draining", "gauge", "1 if the node accepts nothing new")
SHARED_LIMITS = Family(
    "mlxnode_shared_limits_reachable", "gauge", "1 if the store of shared rate limits answers"
)
DESCRIPTOR_LIMIT = Family(
    "mlxnode_descriptor_limit", "gauge", "File descriptors that a process can have"
)
IN_FLIGHT = Family("mlxnode_requests_in_flight", "gauge", "Requests that are being answered")
PROCESS_STATE = Family(
    "mlxnode_process_state", "gauge", "1 for the state of a process", ("process", "state")
)
PROCESS_RESTARTS = Family(
    "mlxnode_process_restarts", "counter", "Starts after the first one", ("process",)
)
PROCESS_UPTIME = Family(
    "mlxnode_process_uptime_seconds", "gauge", "Since the last start", ("process",)
)
MODEL_STATE = Family(
    "mlxnode_model_state", "gauge", "1 for the state of a model", ("model", "state")
)
MODEL_FAILED = Family("mlxnode_model_failed", "gauge", "1 if it cannot be served", _MODEL)
MODEL_PINNED = Family("mlxnode_model_pinned", "gauge", "1 if nothing unloads it", _MODEL)
MODEL_LOADS = Family("mlxnode_model_loads", "counter", "Loads of a model", _MODEL)
MODEL_WEIGHTS = Family("mlxnode_model_weight_bytes", "gauge", "Its weights in memory", _MODEL)
MODEL_IDLE = Family(
    "mlxnode_model_idle_seconds", "gauge", "Since the end of its last request", _MODEL
)
RUNNING = Family("mlxnode_sequences_running", "gauge", "Rows of the batch", _MODEL)
WAITING = Family("mlxnode_sequences_waiting", "gauge", "Sequences that wait for a row", _MODEL)
BACKGROUND = Family(
    "mlxnode_sequences_background", "gauge", "Those of batches, running or waiting", _MODEL
)
STEPS = Family("mlxnode_steps", "counter", "Passes that generate text", _MODEL)
STEP_ROWS = Family("mlxnode_step_rows", "counter", "Rows of all these passes", _MODEL)
ENGINE_PROMPT = Family(
    "mlxnode_engine_prompt_tokens", "counter", "Prompt tokens, as they are processed", _MODEL
)
ENGINE_CACHED = Family(
    "mlxnode_engine_cached_tokens", "counter", "Of those, from the prefix cache", _MODEL
)
ENGINE_GENERATED = Family(
    "mlxnode_engine_generated_tokens", "counter", "Tokens, as they are generated", _MODEL
)
DRAFTED = Family("mlxnode_drafted_tokens", "counter", "Draft tokens that were tried", _MODEL)
ACCEPTED = Family("mlxnode_accepted_tokens", "counter", "Draft tokens accepted", _MODEL)
PREFIX_BYTES = Family("mlxnode_prefix_cache_bytes", "gauge", "Of cached prefixes", _MODEL)
PREFIX_ENTRIES = Family("mlxnode_prefix_cache_entries", "gauge", "Cached prefixes", _MODEL)
KV_LIMIT = Family("mlxnode_kv_cache_limit_bytes", "gauge", "For KV caches and prefixes")
KV_CLAIMED = Family("mlxnode_kv_cache_claimed_bytes", "gauge", "Of those, claimed")
MEMORY_LIMIT = Family("mlxnode_memory_limit_bytes", "gauge", "What the engine may use")
MEMORY_ACTIVE = Family("mlxnode_memory_active_bytes", "gauge", "Arrays of MLX")
MEMORY_PEAK = Family("mlxnode_memory_peak_bytes", "gauge", "The most that was active")
BUFFER_CACHE = Family("mlxnode_buffer_cache_bytes", "gauge", "Freed buffers that MLX keeps")
BUFFER_CACHE_LIMIT = Family("mlxnode_buffer_cache_limit_bytes", "gauge", "The most it keeps")
WIRED_LIMIT = Family("mlxnode_memory_wired_limit_bytes", "gauge", "Memory that is not paged")
FOOTPRINT = Family("mlxnode_memory_footprint_bytes", "gauge", "The engine, by the system")
PRESSURE = Family(
    "mlxnode_memory_pressure", "gauge", "1 for what the memory guard does", ("stage",)
)

# --- the store of files and batches ----------------------------------------------------

BATCHES = Family(
    "mlxnode_batches", "gauge", "Batches of all keys that have not ended", ("status",)
)
BATCH_REQUESTS = Family(
    "mlxnode_batch_requests_left", "gauge", "Requests of these batches without a result"
)
STORED_BYTES = Family("mlxnode_stored_file_bytes", "gauge", "All files of all keys")

STORED = (BATCHES, BATCH_REQUESTS, STORED_BYTES)

TOLD = (
    *(FIGURES_UP, BUILD, UPTIME, DRAINING, SHARED_LIMITS, DESCRIPTOR_LIMIT, IN_FLIGHT),
    *(PROCESS_STATE, PROCESS_RESTARTS, PROCESS_UPTIME),
    *(MODEL_STATE, MODEL_FAILED, MODEL_PINNED, MODEL_LOADS, MODEL_WEIGHTS, MODEL_IDLE),
    *(RUNNING, WAITING, BACKGROUND, STEPS, STEP_ROWS),
    *(ENGINE_PROMPT, ENGINE_CACHED, ENGINE_GENERATED, DRAFTED, ACCEPTED),
    *(PREFIX_BYTES, PREFIX_ENTRIES, KV_LIMIT, KV_CLAIMED),
    *(MEMORY_LIMIT, MEMORY_ACTIVE, MEMORY_PEAK, BUFFER_CACHE, BUFFER_CACHE_LIMIT),
    *(WIRED_LIMIT, FOOTPRINT, PRESSURE),
)
