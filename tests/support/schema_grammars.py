"""Which texts the grammar of a JSON schema takes, for tokens of single bytes."""

import json
from random import Random
from typing import Any

import numpy as np

from mlxnode.grammar import compile_grammar
from mlxnode.server.constraints.constraint import json_grammar
from mlxnode.server.constraints.trial import _byte_tokenizer

PARAM = "tools[1].function.parameters"
MAX_BYTES = 1000


def accepts_text(schema: Any, text: str, *, strict: bool = False, closed: bool = True) -> bool:
    """True if ``text`` is an answer."""
    return takes(json_grammar(schema, PARAM, strict=strict, closed=closed), text)


def takes(grammar: str, text: str) -> bool:
    """True if ``text`` is a text of ``grammar``."""
    matcher = compile_grammar(_byte_tokenizer(), grammar)
    tokens = list(text.encode())
    if matcher.validate_tokens(tokens) < len(tokens):
        return False
    for token in tokens:
        matcher.consume_token(token)
    return matcher.is_accepting()


def accepts(schema: Any, value: Any, *, strict: bool = False, closed: bool = True) -> bool:
    """True if ``value`` as JSON is an answer; its keys must have the order of the schema."""
    return accepts_text(
        schema, json.dumps(value, ensure_ascii=False), strict=strict, closed=closed
    )


def random_text(grammar: str, seed: int) -> str | None:
    """A random text of ``grammar``, without white space where possible; None if it is long."""
    random = Random(seed)
    matcher = compile_grammar(_byte_tokenizer(), grammar)
    text = bytearray()
    while len(text) < MAX_BYTES:
        if matcher.is_accepting():
            return text.decode()
        mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little")[:256]).tolist()
        # JSON could go on for long: often end a string, list or object where one may.
        closing = [byte for byte in allowed if byte in b'"}]']
        solid = [byte for byte in allowed if byte not in b" \n"]
        is_ending = bool(closing) and random.random() < 0.3
        text.append(random.choice(closing if is_ending else solid or allowed))
        matcher.consume_token(text[-1])
    return None
