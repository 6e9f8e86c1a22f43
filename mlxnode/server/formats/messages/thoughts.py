"""Signatures of thoughts: what a client hands back that was not shown its model's thoughts."""

import base64
import binascii

_PREFIX = "mlxnode1."


def signature_of(hidden: str) -> str:
    """The signature of a block whose ``hidden`` thoughts are not in the block itself."""
    return _PREFIX + base64.b64encode(hidden.encode("utf-8", "replace")).decode()


def hidden_in(signature: str) -> str:
    """The thoughts in a signature; "" for those of other servers."""
    if not signature.startswith(_PREFIX):
        return ""
    try:
        data = base64.b64decode(signature.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return ""
    return data.decode("utf-8", "replace")
