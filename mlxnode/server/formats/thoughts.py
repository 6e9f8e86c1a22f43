"""A thought in the form that clients keep and send back: ``encrypted_content``, ``signature``.

A client can write any thought as plain text, so there is nothing to protect: the form only has
to be opaque, and never to be taken for that of another server.
"""

import base64
import binascii

_MARK = "mlxnode1."


def seal(text: str) -> str:
    """``text`` in the opaque form."""
    return _MARK + base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()


def unseal(sealed: str) -> str | None:
    """The text in ``sealed``; None if another server wrote it."""
    if not sealed.startswith(_MARK):
        return None
    try:
        data = base64.b64decode(sealed[len(_MARK) :], altchars=b"-_", validate=True)
        return data.decode()
    except (binascii.Error, ValueError):
        return None
