"""Bearer keys: which clients may send requests."""

import hmac

from mlxnode.config.keys import ApiKey, digest_of
from mlxnode.server.errors import Unauthorized

ANONYMOUS = ApiKey("anonymous", b"")


class Keyring:
    """The accepted keys."""

    def __init__(self, keys: list[ApiKey], *, required: bool):
        self._keys = keys
        self._required = required

    def authenticate(self, authorization: str | None) -> ApiKey:
        """The key in an ``Authorization`` header; ANONYMOUS for a missing or unknown key.

        Raises:
            Unauthorized: the key is missing or unknown, and a key is required.
        """
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
        digest = digest_of(key)
        # All keys are compared, so that the time does not depend on the key.
        matches = [known for known in self._keys if hmac.compare_digest(digest, known.digest)]
        if matches:
            return matches[0]
        if not self._required:
            return ANONYMOUS
        if not key:
            raise Unauthorized(
                "You didn't provide an API key. Send it in the header "
                "'Authorization: Bearer YOUR_KEY'."
            )
        raise Unauthorized(f"Incorrect API key provided: {_mask(key)}.", code="invalid_api_key")


def _mask(key: str) -> str:
    """The first three and the last four characters of a key, to recognise the key."""
    if len(key) < 16:
        return "*" * len(key)
    shown = f"{key[:3]}{'*' * 8}{key[-4:]}"
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in shown)
