"""The architectures of GGUF files that mlx-lm can run: what the metadata means to mlx-lm.

The facts are those of llama.cpp: its converter writes the files, and what it does not write is
in the code of its models. https://github.com/ggml-org/llama.cpp, conversion/ and src/models/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """How a GGUF file of one architecture becomes a model of mlx-lm.

    ``numbers`` names keys of the metadata, without the architecture: config key -> key; they
    are required. ``optional`` has (key, default) instead. ``fixed`` is what the files do not
    say. ``scalings`` are the kinds of rotary scaling that mlx-lm's model computes.
    """

    model_type: str  # mlx-lm's
    scalings: tuple[str, ...] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)  # part of mlx-lm's name -> HF's
    is_interleaved: bool = False  # rows of q and k are rotary pairs (2i, 2i + 1)
    norm_shift: float = 0.0  # what the converter adds to the weights of norms
    has_free_head_dim: bool = True  # False: mlx-lm computes it from hidden size and heads
    nests_rope: bool = False  # config.json has rope_theta and scaling in rope_parameters
    # Layers -> (hidden size / heads) scales the queries instead of the size of a head.
    scaled_by_width: int | None = None
    overflows_half: bool = False  # activations need the range of bfloat16


_EXPERTS = {
    "num_experts_per_tok": "expert_used_count",
}
_GEMMA = {"norm_shift": 1.0, "overflows_half": True}

ARCHITECTURES = {
    "llama": Architecture("llama", ("linear", "yarn", "factors"), is_interleaved=True),
    "mistral3": Architecture(
        "ministral3",
        ("yarn",),
        is_interleaved=True,
        nests_rope=True,
    ),
    "qwen2": Architecture("qwen2", ("linear", "yarn"), has_free_head_dim=False),
    "qwen3": Architecture("qwen3", ("linear", "yarn")),
    "qwen3moe": Architecture(
        "qwen3_moe",
        numbers=_EXPERTS
        | {
            "num_experts": "expert_count",
            "moe_intermediate_size": "expert_feed_forward_length",
        },
        fixed={"decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True},
        renamed={"switch_mlp": "experts"},
    ),
    "gemma2": Architecture(
        "gemma2",
        optional={
            "attn_logit_softcapping": ("attn_logit_softcapping", 50.0),
            "final_logit_softcapping": ("final_logit_softcapping", 30.0),
        },
        scaled_by_width=46,
        **_GEMMA,
    ),
    "gemma3": Architecture(
        "gemma3_text",
        ("linear",),
        numbers={"sliding_window": "attention.sliding_window"},
        optional={
            "sliding_window_pattern": ("attention.sliding_window_pattern", 6),
            "rope_local_base_freq": ("rope.freq_base_swa", 10000.0),
        },
        scaled_by_width=62,
        **_GEMMA,
    ),
    "phi3": Architecture("phi3", ("longrope",), has_free_head_dim=False),
    "smollm3": Architecture(
        "smollm3",
        ("linear", "yarn"),
        fixed={"no_rope_layer_interval": 4},
        is_interleaved=True,
    ),
    "gpt-oss": Architecture(
        "gpt_oss",
        ("yarn",),
        numbers=_EXPERTS
        | {
            "num_local_experts": "expert_count",
            "intermediate_size": "expert_feed_forward_length",
            "sliding_window": "attention.sliding_window",
        },
        overflows_half=True,
    ),
    "granite": Architecture(
        "granite",
        ("linear", "yarn"),
        optional={
            "attention_multiplier": ("attention.scale", None),
            "embedding_multiplier": ("embedding_scale", 1.0),
            "residual_multiplier": ("residual_scale", 1.0),
            "logits_scaling": ("logit_scale", 1.0),
        },
        is_interleaved=True,
        has_free_head_dim=False,
    ),
    "olmo2": Architecture("olmo2", ("linear", "yarn")),
}
