"""Streams whose events have names: those of ``/v1/responses`` and ``/v1/messages``."""

import json
from typing import Any


def read_events(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream: each has a name, which is its type, and one line of data."""
    *blocks, rest = stream.decode().split("\n\n")
    assert rest == "", f"the stream ends within an event: {rest!r}"
    events = []
    for block in blocks:
        name, data = block.split("\n")
        assert data.startswith("data: "), block
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}", block
        events.append(event)
    return events
