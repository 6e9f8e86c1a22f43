"""What the runners of one text model have in common: all but their requests."""

import mlx.core as mx
from mlx import nn

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.activations import PassMemory
from mlxnode.engine.decode.grammars import Grammars, MakeCompiler
from mlxnode.engine.decode.prefill import MAX_CHUNK, Prefiller
from mlxnode.engine.decode.sampling import Sampler
from mlxnode.engine.kvcache.budget import MemoryBudget, measure_caches
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.kvcache.prompt_cache import PromptCache, new_prompt_cache
from mlxnode.kernels.backend import OPS, Kernels

_MANY_TOKENS = 1024  # in which what a row needs beside its tokens counts little


class TextParts:
    """A model with its kernels, its cached prefixes and its grammars."""

    def __init__(
        self,
        model: nn.Module,
        config: EngineConfig,
        budget: MemoryBudget,
        make_compiler: MakeCompiler,
        kernels: Kernels = OPS,
        store: PrefixStore | None = None,
    ):
        """``store`` keeps prefixes on disk."""
        self.model = model
        self.config = config
        self.budget = budget
        self.grammars = Grammars(model, make_compiler)
        self.sampler = Sampler(kernels)
        if kernels.warm is not None:
            # Only the dtype of the logits is needed, so nothing is computed.
            kernels.warm(sampling=[model(mx.zeros((1, 1), mx.int32)).dtype])
        self.prefixes = PrefixCache(
            lambda: budget.share(config.prefix_cache_gb),
            budget,
            store,
            lambda: budget.share(config.snapshot_cache_gb),
        )
        self.sizes = sizes = measure_caches(
            model, config.kv_cache_bits, surplus=config.num_speculative_tokens, chunk=MAX_CHUNK
        )
        self.prefiller = Prefiller(
            model, kernels, lambda rows, length: sizes.together(rows, length) <= budget.free
        )
        self.passes = PassMemory(model, config)

    def bound(self, tokens: int) -> None:
        """Other ranks have memory for so many tokens in the KV caches of this model."""
        of_many = self.sizes.row(_MANY_TOKENS)
        self.budget.bound(self, tokens * of_many // _MANY_TOKENS)

    def new_cache(self) -> PromptCache:
        """An empty KV cache of one sequence."""
        return new_prompt_cache(self.model, self.config.kv_cache_bits)

    def reserve_activations(self, available: int, context_length: int) -> int:
        """The bytes to keep free for passes; prompt chunks are then short enough for them."""
        size = self.passes.reserve(available, context_length)
        self.prefiller.max_chunk = self.passes.max_chunk
        return size

    def do_idle_work(self) -> bool:
        """Write one prefix to disk; False if all are written."""
        if is_needed := self.prefixes.has_unsaved:
            self.prefixes.save_next()
        return is_needed

    def close(self) -> None:
        """End the threads, and drop the cached prefixes."""
        self.grammars.close()
        self.prefixes.close()
        self.budget.drop(self)
