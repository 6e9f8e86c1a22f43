"""Messages that are served, strange as some look."""

from support.raw_messages import (
    BODY,
    CHUNKS,
    HEX,
    HOST,
    chunked,
    coded,
    first,
    get,
    length,
    served,
    sized,
    trailers,
)

_SERVED = [
    served("plain", "RFC 9112 2.1", get(HOST)),
    served("empty line first", "RFC 9112 2.2", b"\r\n" + get(HOST)),
    served("no space after the colon", "RFC 9112 5.1", get(b"Host:x")),
    served("spaces and tabs around a value", "RFC 9112 5.1", get(b"Host:\t x \t")),
    served("empty value", "RFC 9110 5.5", get(HOST, b"Accept:")),
    served("tab in a value", "RFC 9110 5.5", get(HOST, b"A: b\tc")),
    served("UTF-8 in a value", "RFC 9110 5.5", get(HOST, "X-Title: Café".encode())),
    served("Latin-1 in a value", "RFC 9110 5.5", get(HOST, b"X-Title: Caf\xe9")),
    served("Latin-1 in a media type", "RFC 9110 5.5", sized(b"Accept: \xff")),
    served("all signs of a token", "RFC 9110 5.6.2", get(HOST, b"!#$%&'*+-.^_`|~09: x")),
    served("the same field twice", "RFC 9110 5.3", get(HOST, b"Accept: a", b"Accept: b")),
    served("100 fields", "RFC 9110 5.4", get(HOST, *[b"A: b"] * 99)),
    served("large cookie", "RFC 6265 6.1", get(HOST, b"Cookie: a=" + b"b" * 14_000)),
    served(
        "URL of 8,000 bytes", "RFC 9112 3", first(b"GET /health?%b HTTP/1.1" % (b"a" * 8000))
    ),
    served("Host in capitals", "RFC 9110 7.2", get(b"HOST: X")),
    served("Host with a port", "RFC 9110 7.2", get(b"Host: localhost:8000")),
    served("Host of IPv4", "RFC 9110 7.2", get(b"Host: 127.0.0.1:8000")),
    served("Host of IPv6", "RFC 9110 7.2", get(b"Host: [::1]:8000")),
    served("absolute URL", "RFC 9112 3.2.2", first(b"GET http://X/v1/models HTTP/1.1")),
    served(
        "absolute URL without a path", "RFC 9112 3.2.2", first(b"GET http://x HTTP/1.1"), 200
    ),
    served("quotes in a URL", "WHATWG URL", first(b'GET /health?a="<b>" HTTP/1.1')),
    served("OPTIONS *", "RFC 9110 9.3.7", first(b"OPTIONS * HTTP/1.1"), 204),
    served("TRACE", "RFC 9110 9.3.8", first(b"TRACE /v1/models HTTP/1.1"), 405),
    served("method of WebDAV", "RFC 9110 15.5.6", first(b"PROPFIND /v1/models HTTP/1.1"), 405),
    served("unknown method", "RFC 9110 9.1", first(b"BREW / HTTP/1.1"), 405),
    served("small method", "RFC 9110 9.1", first(b"get / HTTP/1.1"), 405),
    served("method with another behind it", "RFC 9110 9.1", first(b"GETX / HTTP/1.1"), 405),
    served("long method", "RFC 9110 9.1", first(b"A" * 9000 + b" / HTTP/1.1"), 405),
    served("upgrade", "RFC 9110 7.8", get(HOST, b"Connection: Upgrade", b"Upgrade: h2c")),
    served(
        "upgrade with a body",
        "RFC 9110 7.8",
        sized(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: websocket"),
    ),
    served("length", "RFC 9112 6.3", sized()),
    served("length with zeros", "RFC 9110 8.6", length(b"0037")),
    served("length with spaces", "RFC 9112 5.1", length(b" 37 ")),
    served("length 0", "RFC 9110 8.6", get(HOST, b"Content-Length: 0")),
    served("expectation", "RFC 9110 10.1.1", sized(b"Expect: 100-Continue"), 100, 200),
    served("chunks", "RFC 9112 7.1", chunked(CHUNKS)),
    served("coding in capitals", "RFC 9112 7", coded(b"CHUNKED")),
    served("coding with spaces", "RFC 9112 5.1", coded(b" \tchunked ")),
    served(
        "size in capitals, with zeros",
        "RFC 9112 7.1",
        chunked(b"000" + CHUNKS.upper().replace(BODY.upper(), BODY)),
    ),
    served(
        "chunks of a byte",
        "RFC 9112 7.1",
        chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"),
    ),
    served(
        "zeros as the end", "RFC 9112 7.1", chunked(b"%b\r\n%b\r\n000\r\n\r\n" % (HEX, BODY))
    ),
    served(
        "extensions",
        "RFC 9112 7.1.1",
        chunked(b'%b;a;b=c;d="\\"e"\r\n%b\r\n0;f\r\n\r\n' % (HEX, BODY)),
    ),
    served("trailers", "RFC 9112 7.1.2", trailers(b"Digest: x", b"A:")),
    served("trailer of a Host", "RFC 9110 6.5.1", trailers(b"Host: y")),
    served("body of a GET", "RFC 9110 9.3.1", get(HOST, b"Content-Length: 2") + b"{}"),
    served(
        "body of OPTIONS *",
        "RFC 9110 9.3.7",
        get(HOST, b"Content-Length: 2", first=b"OPTIONS * HTTP/1.1") + b"{}",
        204,
    ),
    served("two requests at once", "Twisted CVE-2023-46137", get(HOST) + sized(), 200, 200),
    served("two bodies at once", "RFC 9112 9.3.2", sized() + chunked(CHUNKS), 200, 200),
    served(
        "trailers, then a request", "RFC 9112 9.3.2", trailers(b"A: b") + get(HOST), 200, 200
    ),
    served("empty line between", "RFC 9112 2.2", sized() + b"\r\n" + get(HOST), 200, 200),
    served("HTTP/1.0 without a Host", "RFC 9112 3.2", get(first=b"GET /v1/models HTTP/1.0")),
    served("body of HTTP/1.0", "RFC 9112 6.3", sized().replace(b"HTTP/1.1", b"HTTP/1.0")),
    served(
        "HTTP/1.0 that keeps the connection",
        "RFC 9112 C.2.2",
        get(b"Connection: keep-alive", first=b"GET /v1/models HTTP/1.0") * 2,
        200,
        200,
    ),
]

SERVED = {message.name: message for message in _SERVED}
