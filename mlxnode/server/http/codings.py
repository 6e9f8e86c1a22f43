"""Undoes the Content-Encoding of request bodies (RFC 9110, 8.4), within bounds."""

import asyncio
import zlib

from mlxnode.server.errors import InvalidRequest, TooLarge, UnknownCoding

SUPPORTED = "gzip, deflate"
_GZIP = zlib.MAX_WBITS | 16
_MAX_CODINGS = 2  # a body that a client and a proxy have encoded
# Each end of a gzip member copies the rest of its piece: small pieces keep a body of many
# members linear.
_PIECE = 4096  # bytes


def codings_of(headers: list[str]) -> list[str]:
    """The codings that a body's Content-Encoding headers name, in the order of encoding.

    Raises:
        UnknownCoding: a coding is not supported.
        InvalidRequest: there are too many codings.
    """
    names = [name.strip().lower() for name in ",".join(headers).split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    for name in codings:
        if name not in ("gzip", "x-gzip", "deflate"):
            raise UnknownCoding(
                f"Unsupported Content-Encoding {name!r}: send {SUPPORTED} or none",
                code="unsupported_content_encoding",
                headers={"accept-encoding": SUPPORTED},
            )
    if len(codings) > _MAX_CODINGS:
        raise InvalidRequest(
            f"The body has {len(codings)} content codings; at most {_MAX_CODINGS} are undone",
            code="invalid_content_encoding",
        )
    return codings


async def decode_body(body: bytes, codings: list[str], max_bytes: int) -> bytes:
    """The body without ``codings``, which are a result of ``codings_of``.

    Raises:
        InvalidRequest: the body is damaged.
        TooLarge: the body has more than ``max_bytes`` bytes when it is decoded.
    """
    for name in reversed(codings if body else []):
        body = await asyncio.to_thread(_inflate, body, name, max_bytes)
    return body


def _inflate(body: bytes, name: str, max_bytes: int) -> bytes:
    """All members of a body in gzip, or the stream of a body in deflate."""
    window = _window_of_deflate(body) if name == "deflate" else _GZIP
    inflated = bytearray()
    inflater = zlib.decompressobj(window)
    try:
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            while piece:
                if inflater.eof:
                    inflater = zlib.decompressobj(window)
                # One byte too many tells that the body is too large.
                inflated += inflater.decompress(piece, max_bytes + 1 - len(inflated))
                if len(inflated) > max_bytes:
                    raise TooLarge(
                        f"The request is too large: at most {max_bytes} bytes of body are "
                        "accepted, also when they are sent compressed",
                        code="request_too_large",
                    )
                piece = inflater.unused_data
    except zlib.error as error:
        raise _damaged(name) from error
    if not inflater.eof:
        raise _damaged(name)
    return bytes(inflated)


def _window_of_deflate(body: bytes) -> int:
    """zlib's ``wbits``: by the RFC, deflate has zlib's head; some clients leave it out."""
    head = int.from_bytes(body[:2], "big")
    has_head = head >> 8 & 0x0F == zlib.DEFLATED and head % 31 == 0
    return zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS


def _damaged(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"The body is not {name}, as its Content-Encoding says, or is cut or damaged",
        code="invalid_content_encoding",
    )
