"""Bodies that are refused: lengths, codings, chunks and trailers."""

from support.raw_messages import (
    BODY,
    CHUNKED,
    CHUNKS,
    HEX,
    chunked,
    coded,
    length,
    post,
    refused,
    sized,
    trailers,
)

_LENGTHS = [
    refused("plus", "hyper CVE-2021-32715", length(b"+37")),
    refused("minus", "Jetty CVE-2023-40167", length(b"-37")),
    refused("underscore", "Tornado GHSA-qppv-j76h-2rpx", length(b"3_7")),
    refused("hexadecimal", "waitress CVE-2022-24761", length(b"0x25")),
    refused("point", "RFC 9110 8.6", length(b"37.0")),
    refused("exponent", "RFC 9110 8.6", length(b"37e0")),
    refused("space inside", "RFC 9110 8.6", length(b"3 7")),
    refused("digits of Unicode", "aiohttp GHSA-gfw2-4jvh-wgfg", length("٣٧".encode())),
    refused("superscript", "aiohttp GHSA-gfw2-4jvh-wgfg", length("³".encode())),
    refused("letters", "RFC 9110 8.6", length(b"abc")),
    refused("empty", "HAProxy CVE-2023-40225", length(b"")),
    refused("list of the same", "RFC 9112 6.3", length(b"37, 37")),
    refused("list of others", "RFC 9112 6.3", length(b"37, 0")),
    refused("above 64 bits", "hyper CVE-2021-32714", length(b"18446744073709551653")),
    refused("1,000 digits", "hyper CVE-2021-32714", length(b"9" * 1000)),
    refused("twice the same", "waitress CVE-2019-16792", sized(b"Content-Length: 37")),
    refused("twice", "Twisted CVE-2020-10108", sized(b"content-length: 0")),
    refused("twice, an empty one", "HAProxy CVE-2023-40225", sized(b"Content-Length:")),
]

_CODINGS = [
    refused("with a length", "Twisted CVE-2020-10109", sized(CHUNKED)),
    refused(
        "before a length",
        "RFC 9112 6.3",
        post(CHUNKED, b"Content-Length: 5", body=CHUNKS),
    ),
    refused("other last", "waitress CVE-2019-16786", coded(b"chunked, gzip")),
    refused("gzip first", "RFC 9112 6.1", coded(b"gzip, chunked"), 501),
    refused("twice in a list", "gunicorn CVE-2024-1135", coded(b"chunked, chunked")),
    refused(
        "two fields",
        "Node CVE-2020-8287",
        post(CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS),
    ),
    refused("the same twice", "gunicorn CVE-2024-6827", post(CHUNKED, CHUNKED, body=CHUNKS)),
    refused("identity", "RFC 9112 7", coded(b"identity")),
    refused("vertical tab", "waitress CVE-2019-16789", coded(b"\x0bchunked")),
    refused("form feed", "Node CVE-2019-15605", coded(b"chunked\x0c")),
    refused("longer name", "Node CVE-2022-32213", coded(b"xchunked")),
    refused("parameter", "RFC 9112 7", coded(b"chunked;q=1")),
    refused("quotes", "Go CVE-2022-1705", coded(b'"chunked"')),
    refused("empty element", "RFC 9112 6.1", coded(b", chunked"), 501),
    refused("comma at the end", "gunicorn CVE-2024-1135", coded(b"chunked,")),
    refused("empty", "RFC 9112 6.1", coded(b"")),
    refused("of HTTP/1.0", "RFC 9112 6.1", post(CHUNKED, body=CHUNKS, version=b"1.0")),
]

_BAD_CHUNKS = [
    refused("0x", "Twisted CVE-2022-24801", chunked(b"0x" + CHUNKS)),
    refused("plus", "Twisted CVE-2022-24801", chunked(b"+" + CHUNKS)),
    refused("minus", "waitress CVE-2022-24761", chunked(b"-" + CHUNKS)),
    refused("space first", "Twisted CVE-2022-24801", chunked(b" " + CHUNKS)),
    refused("space last", "RFC 9112 7.1", chunked(b"%b \r\n%b\r\n0\r\n\r\n" % (HEX, BODY))),
    refused("tab last", "RFC 9112 7.1", chunked(b"%b\t\r\n%b\r\n0\r\n\r\n" % (HEX, BODY))),
    refused("underscore", "RFC 9112 7.1", chunked(b"2_5\r\n%b\r\n0\r\n\r\n" % BODY)),
    refused("no size", "RFC 9112 7.1", chunked(b"\r\n" + CHUNKS)),
    refused("extension alone", "RFC 9112 7.1.1", chunked(b";a=b\r\n" + CHUNKS)),
    refused("no hexadecimal", "RFC 9112 7.1", chunked(b"zz\r\n")),
    refused("digits of Unicode", "aiohttp GHSA-gfw2-4jvh-wgfg", chunked("٣\r\n".encode())),
    refused("17 digits", "Jetty CVE-2017-7657", chunked(b"10000000000000025\r\n" + BODY)),
    refused("LF after the size", "Go CVE-2025-22871", chunked(b"%b\n%b\r\n" % (HEX, BODY))),
    refused(
        "LF in an extension",
        "aiohttp CVE-2024-52304",
        chunked(b"%b;a\nb\r\n%b" % (HEX, BODY)),
    ),
    refused("CR in an extension", "RFC 9112 7.1.1", chunked(b"%b;a\rb\r\n%b" % (HEX, BODY))),
    refused("NUL in an extension", "RFC 9112 7.1.1", chunked(b"%b;\0\r\n%b" % (HEX, BODY))),
    refused("open quote", "RFC 9112 7.1.1", chunked(b'%b;a="\r\n%b' % (HEX, BODY))),
    refused(
        "large extension",
        "Node CVE-2024-22019",
        chunked(b"%b;a=%b\r\n%b\r\n0\r\n\r\n" % (HEX, b"b" * 40_000, BODY)),
    ),
    refused(
        "large extension without an end", "Puma CVE-2024-21647", chunked(b"5;" + b"b" * 40_000)
    ),
    refused(
        "many extensions",
        "Go CVE-2023-39326",
        chunked(b"1;a=%b\r\n \r\n" % (b"b" * 500) * 200 + b"0\r\n\r\n"),
    ),
    refused(
        "two bytes after data",
        "h11 CVE-2025-43859",
        chunked(b"%b\r\n%bXX0\r\n\r\n" % (HEX, BODY)),
    ),
    refused("LF after data", "RFC 9112 7.1", chunked(b"%b\r\n%b\n0\r\n\r\n" % (HEX, BODY))),
    refused("CR after data", "RFC 9112 7.1", chunked(b"%b\r\n%b\r0\r\n\r\n" % (HEX, BODY))),
    refused("too much data", "RFC 9112 7.1", chunked(b"%b\r\n%b \r\n0\r\n\r\n" % (HEX, BODY))),
    refused("end with LF", "RFC 9112 7.1", chunked(b"%b\r\n%b\r\n0\r\n\n" % (HEX, BODY))),
    refused("end with LF LF", "RFC 9112 7.1", chunked(b"%b\r\n%b\r\n0\n\n" % (HEX, BODY))),
]


_TRAILERS = [
    refused("length", "RFC 9110 6.5.1", trailers(b"Content-Length: 5")),
    refused("coding", "RFC 9110 6.5.1", trailers(CHUNKED)),
    refused("space before the colon", "Puma CVE-2023-40175", trailers(b"A : b")),
    refused("no colon", "Tomcat CVE-2023-45648", trailers(b"GET / HTTP/1.1")),
    refused("LF", "RFC 9112 7.1.2", trailers(b"A: b\nC: d")),
    refused("folded", "RFC 9112 5.2", trailers(b"A: b", b" c")),
    refused("large", "aiohttp CVE-2025-53643", trailers(b"A: " + b"b" * 40_000)),
    refused("many", "aiohttp CVE-2025-53643", trailers(*[b"A: b"] * 9000)),
]

BODIES = {
    f"{room}: {message.name}": message
    for room, messages in (
        ("Content-Length", _LENGTHS),
        ("Transfer-Encoding", _CODINGS),
        ("chunk", _BAD_CHUNKS),
        ("trailer", _TRAILERS),
    )
    for message in messages
}
