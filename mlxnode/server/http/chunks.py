"""Undoes the chunked transfer coding of request bodies (RFC 9112, section 7.1)."""

import re

import httptools

from mlxnode.server.errors import InvalidRequest

_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_MAX_FRAMING = 16_384  # bytes of extensions and trailers, and some for each byte of the body
_FRAMING_OF_A_BYTE = 16
_MAX_PIECES = 4096  # of one call, which takes some milliseconds


class ChunkedBody:
    """Reads one body. llhttp judges all of it, in pieces that never reach the next request.

    llhttp does not say where in its input a message has ended. So it gets line by line, and the
    data of a chunk by the size that it has just accepted. Trailers are checked, then dropped.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._pieces: list[bytes] = []
        self._num_left = 0  # of a chunk, with its CR LF
        self._is_last = False  # the chunk of size 0: only trailers follow
        self._allowance = _MAX_FRAMING
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    def read(self, buffer: bytearray) -> bytes:
        """Remove what belongs to the body from ``buffer``, and return the body's part of it.

        An incomplete line stays in ``buffer``, and what is beyond some thousand chunks.

        Raises:
            InvalidRequest: a chunk or a trailer is malformed.
        """
        position = 0
        for _ in range(_MAX_PIECES):
            if position == len(buffer) or self.is_complete:
                break
            end = self._end_of_piece(buffer, position)
            if end == position:
                break
            try:
                self._parser.feed_data(buffer[position:end])
            except httptools.HttpParserError as error:
                raise InvalidRequest(
                    f"The chunks of the body are malformed: {error}"
                ) from error
            position = end
        del buffer[:position]
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._allowance += _FRAMING_OF_A_BYTE * len(data)

    def on_message_complete(self) -> None:
        self.is_complete = True

    def _end_of_piece(self, buffer: bytearray, start: int) -> int:
        """The end of the data, or of the line, that begins at ``start``; else ``start``."""
        if self._num_left:
            end = min(start + self._num_left, len(buffer))
            self._num_left -= end - start
            return end
        end = buffer.find(b"\n", start) + 1
        num_bytes = (end or len(buffer)) - start
        if num_bytes > self._allowance:
            raise InvalidRequest(
                f"The chunks of the body have more than {_MAX_FRAMING} bytes of extensions and "
                "trailers"
            )
        if not end:
            return start
        self._allowance -= num_bytes
        if not self._is_last:
            digits = _SIZE.match(buffer, start)  # anything else is refused by llhttp
            size = int(digits[0], 16) if digits else 0
            self._is_last = size == 0
            self._num_left = size + 2 if size else 0
        return end
