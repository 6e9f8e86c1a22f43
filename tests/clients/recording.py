"""What a client has sent, without what is personal and without long texts."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.loop import KEY, Client, Workspace
from clients.recorder import Exchange

FOLDER = Path(__file__).parent / "recorded"
LONGEST = 240  # letters of a text; the middle of a longer one is left out
# Of one connection, or of one machine.
_LEFT_OUT = {"authorization", "x-api-key", "host", "content-length", "connection"}
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NO_UUID = "00000000-0000-4000-8000-000000000000"
_CALL = re.compile(r"(call|toolu|msg|resp|fc|rs|item)_[0-9a-f]{24,}")
_HEX = re.compile(r"\b[0-9a-f]{32,}\b")
_DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
_LONG_DATE = re.compile(r"\w+day, \w+ \d+, 20\d\d")
_TIME = re.compile(r"\b\d\d?:\d\d:\d\d(\.\d+)?( [AP]M)?\b")


def record(client: Client, workspace: Workspace, exchanges: Sequence[Exchange]) -> Path:
    """Write the requests of ``client``, one a line.

    Of those with the same fields, the last one, which holds the turns before it.
    """
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{client.name}.jsonl"
    impersonal = _Impersonal(workspace)
    last = {
        (exchange.method, exchange.path, *sorted(exchange.json or ())): exchange
        for exchange in exchanges
    }
    lines = [
        json.dumps(_request(exchange, impersonal), ensure_ascii=False)
        for exchange in last.values()
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _request(exchange: Exchange, impersonal: "_Impersonal") -> dict[str, Any]:
    headers = {k: _UUID.sub(_NO_UUID, v) for k, v in exchange.headers.items()}
    return {
        "method": exchange.method,
        "path": exchange.path,
        "headers": {k: v for k, v in headers.items() if k not in _LEFT_OUT},
        "body": impersonal.value(exchange.json),
        "ignored": exchange.ignored,
    }


class _Impersonal:
    """Replaces what only this run of a client knows."""

    def __init__(self, workspace: Workspace):
        self._places = {
            str(workspace.file): "/home/user/letters/note.txt",
            str(workspace.folder): "/home/user/letters",
            str(workspace.project): "/home/user/project",
            str(workspace.home): "/home/user",
            str(workspace.home.parent): "/home",
            workspace.file.name: "note.txt",
            workspace.name: "note",
            workspace.word: "quince",
            KEY: "sk-key",
        }

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        return value

    def text(self, text: str) -> str:
        for place, instead in self._places.items():
            text = text.replace(place, instead)
        text = _UUID.sub(_NO_UUID, text)
        text = _CALL.sub(lambda found: f"{found[1]}_{_number(found[0]):08x}", text)
        text = _HEX.sub("0" * 32, text)
        text = _DATE.sub("2026-01-01", text)
        text = _LONG_DATE.sub("Thursday, January 1, 2026", text)
        text = _TIME.sub("12:00:00", text)
        if len(text) > LONGEST and not text.startswith(("{", "[")):
            text = f"{text[: LONGEST // 2]} […] {text[-LONGEST // 2 :]}"
        return text


def _number(id: str) -> int:
    """A number that is the same for the same id."""
    return int.from_bytes(id.encode()[-6:], "big") % 2**32
