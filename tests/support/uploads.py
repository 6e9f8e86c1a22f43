"""Uploads by hand: forms, and requests with them."""

import httpx2 as httpx

MIB = 1024 * 1024
BOUNDARY = "b0und4ry"


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A form of parts: what follows the name in the disposition, and the data."""
    text = b"".join(
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n"
        % (BOUNDARY.encode(), head.encode(), data)
        for head, data in parts
    )
    return text + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


FILE = 'name="file"; filename="a.jsonl"', b"{}\n"
PURPOSE = 'name="purpose"', b"batch"


def post(worker, body: bytes, content_type=f"multipart/form-data; boundary={BOUNDARY}", **more):
    headers = worker.headers | {"content-type": content_type} | more
    return httpx.post(f"{worker.url}/v1/files", content=body, headers=headers, timeout=60)


def names(folder) -> set[str]:
    return {path.name for path in (folder / "files").iterdir()}


def head_of(worker, size: int) -> bytes:
    """The head of an upload of which the client waits to send the body."""
    fields = (
        "Host: x",
        f"Authorization: Bearer {worker.key}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {size}",
        "Expect: 100-continue",
    )
    return "\r\n".join(["POST /v1/files HTTP/1.1", *fields, "", ""]).encode()
