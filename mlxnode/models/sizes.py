"""Whether the sizes in config.json are possible: a model is built of them before it is loaded.

A million layers, say, would be built one by one, for minutes and in all the memory, before
the first of them is found to have no weights.
"""

from typing import Any

from mlxnode.errors import ModelError

_MAX_LAYERS = 10_000
_MAX_PARTS = 1 << 16  # heads and experts
_MAX_SIZE = 1 << 24  # of a vector, and of the vocabulary
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
_LIMITS = {
    **dict.fromkeys(_LAYERS, _MAX_LAYERS),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "num_key_value_heads",
            "n_head",
            "n_heads",
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "n_shared_experts",
        ),
        _MAX_PARTS,
    ),
    **dict.fromkeys(
        (
            "hidden_size",
            "intermediate_size",
            "moe_intermediate_size",
            "head_dim",
            "vocab_size",
            "n_embd",
            "d_model",
            "n_positions",
        ),
        _MAX_SIZE,
    ),
}


def check_sizes(config: dict[str, Any], num_tensors: int) -> None:
    """Check the sizes in ``config``, of a model whose files have ``num_tensors`` tensors.

    Raises:
        ModelError: a size is no number, or is out of range.
    """
    for table in (config, config.get("text_config")):
        if not isinstance(table, dict):
            continue
        for key, limit in _LIMITS.items():
            if key in _LAYERS:
                _check(key, table.get(key), min(limit, num_tensors))
            else:
                _check(key, table.get(key), limit)


def _check(key: str, value: Any, limit: int) -> None:
    """Some models have a list of sizes, one for each layer; None is as good as nothing."""
    sizes = value if isinstance(value, list) else [value]
    for size in sizes:
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= limit:
            reason = ", the number of tensors" if key in _LAYERS and limit < _MAX_LAYERS else ""
            raise ModelError(
                f"config.json: {key} must be an integer from 0 to {limit}{reason}, "
                f"got {_short(size)}"
            )


def _short(value: Any) -> str:
    # An integer of thousands of digits cannot be written as a text.
    is_long = isinstance(value, int) and value.bit_length() > 128
    return "one of many digits" if is_long else f"{value!r:.60}"
