"""The bytes of single tokens, for log-probabilities: a token need not be whole characters."""

import functools
import re
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenText:
    """What each token of a vocabulary stands for."""

    def __init__(self, tokenizer: Any):
        """``tokenizer`` is one of the tokenizers package."""
        self._tokenizer = tokenizer
        # Alone or in a sequence; the decoders have no other way to ask.
        self._is_byte_level = "ByteLevel(" in repr(tokenizer.decoder)
        added = tokenizer.get_added_tokens_decoder()
        self._added = {token: content.content for token, content in added.items()}

    def bytes_of(self, token: int) -> bytes:
        """The bytes of ``token``, none for an id that is not in the vocabulary."""
        if token in self._added:
            return self._added[token].encode()
        piece = self._tokenizer.id_to_token(token)
        if piece is None:
            return b""
        if self._is_byte_level:
            return b"".join(_byte_of_character().get(c, c.encode()) for c in piece)
        if found := _BYTE_TOKEN.fullmatch(piece):
            return bytes([int(found[1], 16)])
        return piece.replace("\u2581", " ").encode()


@functools.cache
def _byte_of_character() -> dict[str, bytes]:
    """How byte-level BPE writes bytes: printable ones as themselves, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): bytes([byte]) for byte in printable}
    return characters | {chr(256 + i): bytes([byte]) for i, byte in enumerate(others)}
