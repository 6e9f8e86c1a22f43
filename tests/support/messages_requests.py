"""Requests to ``/v1/messages``, and what the engine is asked for them."""

from typing import Any

import httpx2 as httpx
from support import contract
from support.messages_grammar import MessageStream
from support.named_events import read_events

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
USER = {"role": "user", "content": "hi"}
ASK = {"model": "tiny-chat", "max_tokens": 400, "messages": [USER]}
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
OTHER = {"name": "g", "input_schema": {"type": "object", "properties": {}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
MARK = {"cache_control": {"type": "ephemeral"}}
VERSION = {"anthropic-version": "2023-06-01"}


def ask(worker, **body) -> httpx.Response:
    return contract.accepted(worker, MESSAGES, ASK | body)


def prompt_of(worker, **body) -> str:
    ask(worker, **body)
    return contract.prompt_of(worker)


def message_of(response: httpx.Response, stream: bool) -> dict[str, Any]:
    """The message of an answer, whole or streamed."""
    if stream:
        return MessageStream().read(read_events(response.content)).message
    return response.json()


def said(*blocks) -> list[dict]:
    return [{"role": "user", "content": list(blocks)}]


def text(text: str, **more) -> dict:
    return {"type": "text", "text": text} | more


def refused(worker, path=MESSAGES, **body) -> dict:
    response = contract.refused(worker, path, ASK | body)
    answer = response.json()
    assert answer["type"] == "error" and answer["request_id"] == response.headers["request-id"]
    return answer["error"]
