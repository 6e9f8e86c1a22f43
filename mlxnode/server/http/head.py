"""The head of a request: llhttp reads it, and the rules that llhttp leaves to a server.

The sources are RFC 9110 and RFC 9112. Whatever two parsers could read in two ways is refused:
behind a proxy, the second reading is a request that the proxy has not seen.
"""

import re
from dataclasses import dataclass, field

import httptools

from mlxnode.server.errors import (
    HeadersTooLarge,
    InvalidRequest,
    NotSupported,
    UriTooLong,
    VersionNotSupported,
)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TOKEN_CHAR = re.compile(_TOKEN)
_REQUEST_LINE = re.compile(rb"(%b+) ([!-~]+) HTTP/([0-9]\.[0-9])\r\n" % _TOKEN)
_MAX_FIELDS = 100  # of a head
_VERSIONS = ("1.0", "1.1")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
# uri-host [":" port] (RFC 9110, section 7.2): a name, an address, or an IPv6 literal.
_HOST = re.compile(
    r"(?:\[[0-9a-f:.]+(?:%[\w.~%-]+)?\]|[\w.~!$&'()*+,;=%-]*)(?::\d{0,5})?", re.I
)
_BLANK = " \t"  # optional white space


@dataclass
class Head:
    """A request without its body. ``length``: bytes of the body; None: it comes in chunks."""

    method: str
    target: str
    version: str
    raw: bytes
    length: int | None = 0
    keep_alive: bool = False
    fields: list[tuple[str, str]] = field(default_factory=list)  # names in lower case

    def values(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name]


class HeadReader:
    """Reads one head as its bytes arrive, and refuses a bad one at its first bad byte."""

    def __init__(self, max_bytes: int):
        self.target = ""  # as far as it is known, for the answer to a bad head
        self._max_bytes = max_bytes
        self._fields: list[tuple[bytes, bytes]] = []
        self._line: re.Match[bytes] | None = None
        self._num_fed = 0
        self._may_skip = True
        self._is_complete = self._keep_alive = False
        self._parser = httptools.HttpRequestParser(self)

    def read(self, buffer: bytearray) -> Head | None:
        """The head, once it is complete: it is then removed from the front of ``buffer``.

        ``buffer`` grows between the calls.

        Raises:
            InvalidRequest: the head is malformed, or has two meanings.
            UriTooLong, HeadersTooLarge: it has more than ``max_bytes`` bytes.
            NotSupported: its transfer coding is unknown, or it is for a proxy.
            VersionNotSupported: its version is.
        """
        if self._may_skip and buffer:
            if buffer == b"\r":
                return None
            if buffer.startswith(b"\r\n"):  # some clients send it after a body (RFC 9112, 2.2)
                del buffer[:2]
            self._may_skip = False
        while self._num_fed < len(buffer):
            line_end = buffer.find(b"\n", self._num_fed) + 1
            end = line_end or len(buffer)
            if end > self._max_bytes:
                raise self._too_large()
            if self._line is None:
                if not line_end and _TOKEN_CHAR.match(buffer[:1]):
                    return None
                self._read_request_line(bytes(buffer[:end]))
            else:
                self._feed(bytes(buffer[self._num_fed : end]))
            self._num_fed = end
            if self._is_complete:
                head = self._check(bytes(buffer[:end]))
                del buffer[:end]
                return head
        return None

    # --- llhttp's callbacks ---------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))  # as many as max_bytes allows

    def on_headers_complete(self) -> None:
        self._is_complete = True
        self._keep_alive = self._parser.should_keep_alive()  # forgotten with the message's end

    # --- the request line -----------------------------------------------------------

    def _read_request_line(self, line: bytes) -> None:
        self._line = _REQUEST_LINE.fullmatch(line)
        if self._line is None:
            raise InvalidRequest(
                "The request does not begin with 'METHOD TARGET HTTP/1.1', one space between "
                "the parts and a line end of CR LF"
            )
        self.target = self._line[2].decode()
        version = self._line[3].decode()
        if version not in _VERSIONS:
            raise VersionNotSupported(f"HTTP/{version} is not supported: send HTTP/1.1")
        if self._line[1] == b"CONNECT":
            raise NotSupported("CONNECT is not supported: this server is no proxy")
        # llhttp knows some methods, and protocols that begin with them. The router knows ours.
        self._feed(b"POST %b HTTP/%b\r\n" % (self._line[2], self._line[3]))

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # the request asks for another protocol; HTTP/1.1 goes on (RFC 9110, 7.8)
        except httptools.HttpParserError as error:
            raise InvalidRequest(f"The request is not valid HTTP/1.1: {error}") from error

    def _too_large(self) -> UriTooLong | HeadersTooLarge:
        most = f"at most {self._max_bytes} bytes"
        if self._line is None:
            return UriTooLong(f"The URL is too long: {most}", code="uri_too_long")
        return HeadersTooLarge(
            f"The URL and the headers are too large: {most}", code="headers_too_large"
        )

    # --- the whole ------------------------------------------------------------------

    def _check(self, raw: bytes) -> Head:
        if self._line is None:
            raise RuntimeError("llhttp read a head without a request line")
        if len(self._fields) > _MAX_FIELDS:
            raise HeadersTooLarge(
                f"A request has at most {_MAX_FIELDS} headers, got {len(self._fields)}",
                code="headers_too_large",
            )
        fields = [(name.decode().lower(), _text(value)) for name, value in self._fields]
        head = Head(self._line[1].decode(), self.target, self._line[3].decode(), raw)
        head.fields = fields
        head.keep_alive = self._keep_alive
        head.length = _body_length(head)
        host = _checked_host(head)
        head.target = _checked_target(head, host)
        return head


def _text(value: bytes) -> str:
    """A value of a field: UTF-8, or the Latin-1 that fetch and most servers send."""
    try:
        return value.decode().strip(_BLANK)
    except UnicodeDecodeError:
        return value.decode("latin-1").strip(_BLANK)


def _body_length(head: Head) -> int | None:
    """The bytes of the body; None if it is chunked. llhttp refuses two lengths."""
    codings = ",".join(head.values("transfer-encoding")).lower()
    if not head.values("transfer-encoding"):
        return int((head.values("content-length") or ["0"])[0])
    if head.version == "1.0":
        raise InvalidRequest("Transfer-Encoding is not part of HTTP/1.0")
    if codings.strip(_BLANK) != "chunked":
        raise NotSupported("Transfer-Encoding must be 'chunked' alone")
    return None


def _checked_host(head: Head) -> str:
    """The one Host of the request; "" for HTTP/1.0 without one (RFC 9112, section 3.2)."""
    hosts = head.values("host")
    if len(hosts) > 1 or (not hosts and head.version != "1.0"):
        raise InvalidRequest(f"A request must have one Host header, got {len(hosts)}")
    host = hosts[0] if hosts else ""
    if not host.isascii() or not _HOST.fullmatch(host):
        raise InvalidRequest("The Host header is not a name or an address with a port")
    return host


def _checked_target(head: Head, host: str) -> str:
    """The path and the query (RFC 9112, section 3.2)."""
    target = head.target
    if "#" in target:
        raise InvalidRequest("The URL of a request must not have a fragment, '#'")
    if target.startswith("/") or (target == "*" and head.method == "OPTIONS"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise InvalidRequest("The URL of a request must begin with '/'")
    if absolute[1].lower() != host.lower():
        raise InvalidRequest("The URL names another host than the Host header")
    return absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
