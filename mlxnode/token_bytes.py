"""The bytes of single tokens, for log-probabilities: a token may be a part of a character."""

import functools
import re
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """The bytes of each token of a vocabulary."""

    def __init__(self, tokenizer: Any):
        """``tokenizer``: an object of the tokenizers package."""
        self._tokenizer = tokenizer
        # Alone or in a sequence of decoders: only the text of a decoder names its kind.
        self._is_byte_level = "ByteLevel(" in repr(tokenizer.decoder)
        added = tokenizer.get_added_tokens_decoder()
        self._added = {token: content.content for token, content in added.items()}

    def bytes_of(self, token: int) -> bytes:
        """The bytes of ``token``; none for an id that is not in the vocabulary."""
        if token in self._added:
            return self._added[token].encode()
        text: str | None = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if self._is_byte_level:
            return _bytes_of_byte_level(text)
        if found := _BYTE_TOKEN.fullmatch(text):
            return bytes([int(found[1], 16)])
        return text.replace("\u2581", " ").encode()


def _bytes_of_byte_level(text: str) -> bytes:
    if text.isascii() and text.isprintable() and " " not in text:
        return text.encode()
    known = _byte_by_character()
    return b"".join(bytes([known[c]]) if c in known else c.encode() for c in text)


@functools.cache
def _byte_by_character() -> dict[str, int]:
    """Byte-level BPE writes a printable byte as itself, the other bytes from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
