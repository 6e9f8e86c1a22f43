"""Heads that are refused: request lines and fields."""

from support.raw_messages import (
    CHUNKS,
    HOST,
    first,
    get,
    post,
    refused,
    sized,
)

_REQUEST_LINES = [
    refused("no version", "Jetty CVE-2017-7656", first(b"GET /")),
    refused("version 0.9", "RFC 9112 2.3", first(b"GET / HTTP/0.9"), 505),
    refused("version 1.2", "RFC 9110 15.6.6", first(b"GET / HTTP/1.2"), 505),
    refused("version 2.0", "RFC 9110 15.6.6", first(b"GET / HTTP/2.0"), 505),
    refused("preface of HTTP/2", "RFC 9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("version 1.10", "aiohttp GHSA-gfw2-4jvh-wgfg", first(b"GET / HTTP/1.10")),
    refused("version 1,1", "aiohttp GHSA-8qpw-xqxj-h4r2", first(b"GET / HTTP/1,1")),
    refused("small version", "RFC 9112 2.3", first(b"GET / http/1.1")),
    refused(
        "digits of Unicode", "aiohttp GHSA-gfw2-4jvh-wgfg", first(b"GET / HTTP/1.\xc2\xb9")
    ),
    refused("RTSP", "llhttp: other protocols", first(b"OPTIONS / RTSP/1.0")),
    refused("two spaces", "RFC 9112 3", first(b"GET  / HTTP/1.1")),
    refused("space at the end", "RFC 9112 3", first(b"GET / HTTP/1.1 ")),
    refused("tab for a space", "RFC 9112 3", first(b"GET\t/ HTTP/1.1")),
    refused("space in the URL", "RFC 9112 3.2", first(b"GET /a b HTTP/1.1")),
    refused("control in the URL", "RFC 9112 3.2", first(b"GET /a\x01b HTTP/1.1")),
    refused("byte above ASCII", "RFC 9112 3.2", first(b"GET /\xc3\xa4 HTTP/1.1")),
    refused("fragment", "HAProxy CVE-2023-45539", first(b"GET /v1/models#.png HTTP/1.1")),
    refused("no slash", "RFC 9112 3.2.1", first(b"GET v1/models HTTP/1.1")),
    refused("asterisk of a GET", "RFC 9112 3.2.4", first(b"GET * HTTP/1.1")),
    refused("authority of a GET", "RFC 9112 3.2.3", first(b"GET x:80 HTTP/1.1")),
    refused("CONNECT", "RFC 9110 9.3.6", first(b"CONNECT x:443 HTTP/1.1"), 501),
    refused("CONNECT to a path", "RFC 9110 9.3.6", first(b"CONNECT / HTTP/1.1"), 501),
    refused("method that is no token", "RFC 9110 9.1", first(b"G(T / HTTP/1.1")),
    refused("space before the method", "RFC 9112 2.2", first(b" GET / HTTP/1.1")),
    refused("two empty lines first", "RFC 9112 2.2", b"\r\n\r\n" + get(HOST)),
    refused("LF first", "RFC 9112 2.2", b"\n" + get(HOST)),
    refused("CR first", "RFC 9112 2.2", b"\r" + get(HOST)),
    refused(
        "handshake of TLS", "RFC 8446 4.1.2", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    ),
    refused(
        "LF after the version", "waitress CVE-2019-16785", b"GET / HTTP/1.1\nHost: x\r\n\r\n"
    ),
    refused("long URL", "RFC 9112 3", first(b"GET /%b HTTP/1.1" % (b"a" * 20_000)), 414),
    refused("long URL without an end", "RFC 9112 3", b"GET /" + b"a" * 20_000, 414),
]

_FIELDS = [
    refused("no Host", "RFC 9112 3.2", get(b"Accept: */*")),
    refused("two Hosts", "RFC 9112 3.2", get(HOST, HOST)),
    refused("two different Hosts", "RFC 9112 3.2", get(HOST, b"host: y")),
    refused("Host with a path", "Go CVE-2023-29406", get(b"Host: x/y")),
    refused("Host with a user", "RFC 9110 7.2", get(b"Host: a@x")),
    refused("Host with a space", "RFC 9110 7.2", get(b"Host: x y")),
    refused("list of Hosts", "RFC 9110 7.2", get(b"Host: x,y z")),
    refused("Host with a bad port", "RFC 9110 7.2", get(b"Host: x:8a")),
    refused("Host with a long port", "RFC 9110 7.2", get(b"Host: x:123456")),
    refused("Host with an open bracket", "RFC 9110 7.2", get(b"Host: [::1")),
    refused("Host above ASCII", "RFC 9110 7.2", get(b"Host: \xc3\xa4")),
    refused(
        "URL of another host",
        "RFC 9112 3.2.2",
        get(HOST, first=b"GET http://y/v1/models HTTP/1.1"),
    ),
    refused("space before the colon", "Go CVE-2019-16276", post(b"Content-Length : 37")),
    refused("tab before the colon", "Node CVE-2021-22959", post(b"Content-Length\t: 37")),
    refused("space before a name", "Node CVE-2024-27982", get(HOST, b" Content-Length: 37")),
    refused("space before the first name", "RFC 9112 2.2", get(b" Host: x", HOST)),
    refused("folded line", "RFC 9112 5.2", get(HOST, b"A: b", b" c")),
    refused("folded with a tab", "RFC 9112 5.2", get(HOST, b"A: b", b"\tc")),
    refused(
        "folded Transfer-Encoding",
        "Node CVE-2022-32215",
        post(b"Transfer-Encoding:", b" chunked", body=CHUNKS),
    ),
    refused("LF in a value", "Node CVE-2022-32214", get(HOST, b"A: b\nContent-Length: 37")),
    refused("CR in a value", "Node CVE-2023-30589", get(HOST, b"A: b\rContent-Length: 37")),
    refused("CR before a name", "Node CVE-2023-30589", get(HOST, b"\rA: b")),
    refused("CR CR LF", "RFC 9112 2.2", get(HOST, b"A: b\r")),
    refused("end with LF LF", "Node CVE-2022-35256", b"GET / HTTP/1.1\r\nHost: x\n\n"),
    refused("end with CR LF CR", "Node CVE-2025-23167", b"GET / HTTP/1.1\r\nHost: x\r\n\rX"),
    refused("end with CR LF LF", "RFC 9112 2.2", b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    refused("NUL in a value", "RFC 9110 5.5", get(HOST, b"A: b\0c")),
    refused("NUL in a name", "RFC 9110 5.1", get(HOST, b"A\0: b")),
    refused("control in a value", "RFC 9110 5.5", get(HOST, b"A: b\x0bc")),
    refused("DEL in a value", "RFC 9110 5.5", get(HOST, b"A: b\x7fc")),
    refused("empty name", "HAProxy CVE-2023-25725", get(HOST, b": b")),
    refused("no colon", "RFC 9112 5", get(HOST, b"A")),
    refused("bracket in a name", "aiohttp CVE-2024-23829", get(HOST, b"A(b): c")),
    refused("space in a name", "RFC 9110 5.1", get(HOST, b"A b: c")),
    refused("name above ASCII", "aiohttp GHSA-gfw2-4jvh-wgfg", get(HOST, b"\xc3\xa4: c")),
    refused("large field", "RFC 6585 5", get(HOST, b"A: " + b"b" * 20_000), 431),
    refused(
        "field without an end", "RFC 6585 5", b"GET / HTTP/1.1\r\nA: " + b"b" * 20_000, 431
    ),
    refused("many fields", "Node CVE-2018-12121", get(HOST, *[b"A: b"] * 200), 431),
    refused("many short fields", "Node CVE-2018-12121", get(HOST, *[b"A:"] * 9000), 431),
    refused("unknown Expect", "RFC 9110 10.1.1", sized(b"Expect: miracles"), 417),
]

HEADS = {
    f"{room}: {message.name}": message
    for room, messages in (("request line", _REQUEST_LINES), ("field", _FIELDS))
    for message in messages
}
