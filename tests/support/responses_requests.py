"""Requests to ``/v1/responses``, and what the engine is asked for them."""

from typing import Any

import httpx2 as httpx
from support import contract

PATH = "/v1/responses"
BASE = {"model": "tiny-chat", "input": "hi"}
LOOK = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>'


def ask(worker, **options: Any) -> httpx.Response:
    return contract.accepted(worker, PATH, BASE | options)


def refused(worker, **options) -> tuple[str, str, str]:
    error = contract.error_of(contract.refused(worker, PATH, BASE | options))
    return error["param"], error["code"], error["message"]


def prompt_of(worker, **options) -> str:
    ask(worker, **options)
    return contract.prompt_of(worker)


def turns(text: str) -> list[str]:
    """The messages of a prompt, without the start of the answer."""
    return [turn.removesuffix("<|im_end|>\n") for turn in text.split("<|im_start|>")[1:-1]]
