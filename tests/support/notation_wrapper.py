"""A tokenizer as mlx-lm wraps it, in memory, for a template and its added tokens."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mlxnode.server.prompt.tokenizers import import_tokenizer_utils

ENDS = ("<s>", "</s>")


def make_wrapper(template: str | None, tokens: Sequence[str] = ()) -> Any:
    """A byte tokenizer with ``tokens``, and ``</s>`` as its end of sequence."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    added = [*ENDS, *tokens]
    vocabulary = {token: i for i, token in enumerate(added + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(added)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=ENDS[0], eos_token=ENDS[1]
    )
    fast.chat_template = template
    return import_tokenizer_utils().TokenizerWrapper(fast)
