"""The files of the page in memory, plain and compressed, with the headers that guard them."""

import functools
import gzip
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

INDEX = "index.html"
# Nothing but what this node serves: no script or style in the HTML itself, no eval, no other
# host, no frame around the page. What a model writes could do nothing even if it were markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "cache-control": "no-cache",  # kept, and asked for again: a new version counts at once
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "vary": "Accept-Encoding",
}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page. ``compressed`` is the same in gzip."""

    content_type: str
    body: bytes
    compressed: bytes = field(repr=False)
    digest: str

    def answer(self, if_none_match: str, *, is_gzip: bool) -> "Answer":
        """The answer to a client that has what these tags name, and takes gzip or not."""
        tag = f'"{self.digest}{"-gzip" if is_gzip else ""}"'
        headers = _HEADERS | {"etag": tag}
        known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
        if known & {tag, "*"}:
            return Answer(304, headers, b"", self.content_type)
        if is_gzip:
            headers["content-encoding"] = "gzip"
        return Answer(
            200, headers, self.compressed if is_gzip else self.body, self.content_type
        )


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    content_type: str


@functools.cache
def assets() -> dict[str, Asset]:
    """All files of the page, by name: no other name is answered."""
    found = {}
    for path in sorted(Path(__file__).parent.iterdir()):
        if (content_type := _TYPES.get(path.suffix)) is not None:
            body = path.read_bytes()
            found[path.name] = Asset(
                content_type,
                body,
                gzip.compress(body, mtime=0),
                hashlib.sha256(body).hexdigest()[:20],
            )
    return found
