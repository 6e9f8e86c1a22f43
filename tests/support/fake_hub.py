"""A Hugging Face hub on this machine: what ``huggingface_hub`` asks, over HTTP.

Repositories are folders. A test can make the hub refuse, cut connections, or hold an answer.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = 10_000  # bytes from which a file is a large one, with a SHA-256
GATED, MISSING, NO_REVISION, NO_FILE = (
    (403, "GatedRepo"),
    (401, "RepoNotFound"),
    (404, "RevisionNotFound"),
    (404, "EntryNotFound"),
)


@dataclass
class Repository:
    """A folder at one commit.

    ``refuse`` is a status and a code for every answer, ``refuse_files`` for those with files:
    of a gated model, everybody sees the names of the files.
    """

    folder: Path
    commit: str
    refuse: tuple[int, str] | None = None
    refuse_files: tuple[int, str] | None = None

    @property
    def files(self) -> dict[str, bytes]:
        return {
            str(file.relative_to(self.folder)): file.read_bytes()
            for file in sorted(self.folder.rglob("*"))
            if file.is_file()
        }


@dataclass
class Trouble:
    """What happens to the answers with a file.

    The next ``cuts`` answers end after ``after`` bytes without a word. While ``hold`` is not
    set, answers wait there; ``is_held`` is set when one waits.
    """

    after: int
    cuts: int = 0
    hold: threading.Event | None = None
    is_held: threading.Event = field(default_factory=threading.Event)


@dataclass
class FakeHub:
    """``asked`` has the method, the path and the range of each request, in order."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)  # files that arrive with other bytes
    has_ranges: bool = True
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def add(self, id: str, folder: Path, commit: str = "a" * 40) -> Repository:
        self.repositories[id] = Repository(folder, commit)
        return self.repositories[id]

    def ranges(self, name: str) -> list[str | None]:
        """The ranges of the GETs of a file, in order."""
        return [
            asked
            for method, path, asked in self.asked
            if method == "GET" and path.endswith(name)
        ]


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that runs in threads of this process."""
    server = _Server(("127.0.0.1", 0), _Handler)
    hub = server.hub = FakeHub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        for trouble in hub.troubles.values():
            if trouble.hold is not None:
                trouble.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: FakeHub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("range")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(/revision/([^/]+))?", path):
            self._info(found[1], found[3] or "main")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[2], found[3])
        else:
            self._refuse(404, "Unknown")

    def _find(self, id: str, revision: str) -> Repository | None:
        repository = self.hub.repositories.get(id)
        if repository is None:
            self._refuse(*MISSING)
        elif repository.refuse is not None:
            self._refuse(*repository.refuse)
        elif revision not in ("main", repository.commit):
            self._refuse(*NO_REVISION)
        else:
            return repository
        return None

    def _info(self, id: str, revision: str) -> None:
        if (repository := self._find(id, revision)) is None:
            return
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": _oid(data)}
            | (
                {"lfs": {"sha256": _sha256(data), "size": len(data), "pointerSize": 130}}
                if len(data) >= LARGE
                else {}
            )
            for name, data in repository.files.items()
        ]
        self._json({"id": id, "sha": repository.commit, "siblings": siblings, "tags": []})

    def _tree(self, id: str, revision: str) -> None:
        if (repository := self._find(id, revision)) is None:
            return
        self._json(
            [
                {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
                | (
                    {"lfs": {"oid": _sha256(data), "size": len(data), "pointerSize": 130}}
                    if len(data) >= LARGE
                    else {}
                )
                for name, data in repository.files.items()
            ]
        )

    def _file(self, id: str, revision: str, name: str) -> None:
        if (repository := self._find(id, revision)) is None:
            return
        if repository.refuse_files is not None:
            return self._refuse(*repository.refuse_files)
        if (data := repository.files.get(name)) is None:
            return self._refuse(*NO_FILE)
        etag = _sha256(data) if len(data) >= LARGE else _oid(data)
        start, end = 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or "")
        if asked and self.hub.has_ranges:
            start, end = int(asked[1]), int(asked[2]) + 1 if asked[2] else end
            end = min(end, len(data))
            self.send_response(206)
            self.send_header("content-range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("x-repo-commit", repository.commit)
        self.send_header("etag", f'"{etag}"')
        self.send_header("accept-ranges", "bytes")
        self.send_header("content-length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            if name in self.hub.corrupt:
                data = bytes(len(data))
            self._send(name, data[start:end])

    def _send(self, name: str, data: bytes) -> None:
        trouble = self.hub.troubles.get(name)
        if trouble is None or len(data) <= trouble.after:
            self.wfile.write(data)
            return
        self.wfile.write(data[: trouble.after])
        self.wfile.flush()
        if trouble.cuts:
            trouble.cuts -= 1
            self.close_connection = True
            return
        if trouble.hold is not None:
            trouble.is_held.set()
            trouble.hold.wait(60)
        with contextlib.suppress(OSError):
            self.wfile.write(data[trouble.after :])

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("x-error-code", code)
        self.send_header("content-length", "0")
        self.end_headers()

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
