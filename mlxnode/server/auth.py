"""Bearer keys: who may ask, and under which short id they are counted."""

import hashlib
import hmac

from mlxnode.server.errors import Unauthorized

ANONYMOUS = "anonymous"
_KEY_ID_LENGTH = 12


class Keyring:
    """The accepted keys, held as SHA-256 digests."""

    def __init__(self, keys: list[str], *, required: bool):
        self._digests = [_digest(key) for key in keys]
        self._required = required

    def authenticate(self, authorization: str | None) -> str:
        """The short id of the key in an ``Authorization`` header.

        Raises:
            Unauthorized: no Bearer key, or none of ours.
        """
        if not self._required:
            return ANONYMOUS
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized(
                "You didn't provide an API key. Send it in the header "
                "'Authorization: Bearer YOUR_KEY'."
            )
        digest = _digest(key)
        # All keys are compared, so that the time tells nothing about which one is near.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized(
                f"Incorrect API key provided: {_mask(key)}.", code="invalid_api_key"
            )
        return digest.hex()[:_KEY_ID_LENGTH]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def _mask(key: str) -> str:
    """Enough of a key to recognise it: its first three and last four characters."""
    if len(key) < 16:
        return "*" * len(key)
    shown = f"{key[:3]}{'*' * 8}{key[-4:]}"
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in shown)
