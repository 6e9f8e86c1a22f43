"""Tokens for a client to look at: of a text, of single ids, and back to a text."""

from typing import Any

from mlxnode.token_bytes import TokenBytes

# Functions, not a class: ``tokenizer`` is an object of the tokenizers package, which the
# tokenizers of all types of models have.


def plain_ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """The ids of ``text``; ``special``: with what the tokenizer puts around a text."""
    # Unlike ``encode``, ``encode_batch`` releases the GIL, so that streams go on.
    [encoding] = tokenizer.encode_batch([text], add_special_tokens=special)
    return encoding.ids


def entries(tokenizer: Any, ids: list[int]) -> list[str]:
    """The entries of the vocabulary; "" for an id that it does not have."""
    return [tokenizer.id_to_token(id) or "" for id in ids]


def texts(tokenizer: Any, ids: list[int]) -> list[str | list[int]]:
    """The text of each token, or its bytes if they are a part of a character."""
    token_bytes = TokenBytes(tokenizer)
    known = {id: _text_of(token_bytes.bytes_of(id)) for id in set(ids)}
    return [known[id] for id in ids]


def joined(tokenizer: Any, ids: list[int]) -> str:
    """The text of ``ids``, with special tokens."""
    [text] = tokenizer.decode_batch([ids], skip_special_tokens=False)
    return text


def _text_of(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)
