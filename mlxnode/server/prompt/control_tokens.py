"""Control tokens: the added tokens of a tokenizer that have a meaning for its model."""

import re
from typing import Any

# The shape that families give to tokens which are never a part of ordinary text.
_SHAPE = re.compile(r"<[|\uff5c].*|.*[|\uff5c]>", re.DOTALL)


def control_tokens(tokenizer: Any, sources: str) -> dict[int, str]:
    """The control tokens of ``tokenizer``, an object of the tokenizers package, by their ids.

    They are the special tokens and those that occur in ``sources``, the texts that prompts are
    made of. Other added tokens are ordinary text: runs of spaces, ``<h1>``. A single character
    is ordinary text too: a sentinel cannot break it.
    """
    added: dict[int, Any] = tokenizer.get_added_tokens_decoder()
    return {
        id: token.content
        for id, token in added.items()
        if len(token.content) > 1
        and (token.special or token.content in sources or _SHAPE.fullmatch(token.content))
    }
