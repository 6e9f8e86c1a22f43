"""Requests to every endpoint that takes a body, and the fields that every error has."""

import json

import httpx2 as httpx

from mlxnode.messages.data import Generate
from mlxnode.server.formats.chat.request import to_conversation
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.notation.notation import NO_NOTATION, Notation
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.prompt import tools as prompt_tools
from mlxnode.server.reading.validation import validate

CHATS, TEXTS, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "org/tiny-text", "prompt": "Once"}
EMBEDDING = {"model": "tiny-embedding", "input": "a"}
ENDPOINTS = {
    CHATS: (ChatBody, CHAT),
    TEXTS: (CompletionBody, COMPLETION),
    VECTORS: (EmbeddingBody, EMBEDDING),
}
ALWAYS = ("x-request-id", "openai-processing-ms", "openai-version")
IGNORED = "x-mlxnode-ignored"  # names the fields that change nothing


def chat(worker, **options):
    """Send a request through the OpenAI SDK."""
    return worker.client().chat.completions.create(**(CHAT | options))


def complete(worker, **options):
    """Send a request through the OpenAI SDK."""
    return worker.client().completions.create(**(COMPLETION | options))


def post(worker, path, body, **headers):
    headers = worker.headers | {"content-type": "application/json"} | headers
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(worker.url + path, content=content, headers=headers)


def accepted(worker, path, body) -> httpx.Response:
    """Post ``body``, which is answered."""
    response = post(worker, path, body)
    assert response.status_code == 200, response.text
    return response


def refused(worker, path, body) -> httpx.Response:
    """Post ``body``, which is an invalid request."""
    response = post(worker, path, body)
    assert response.status_code == 400, response.text
    return response


def asked(worker, path=CHATS, body=CHAT, **fields) -> tuple[Generate, str | None]:
    """What the engine is asked for a request with ``fields``, and the ignored ones."""
    response = accepted(worker, path, body | fields)
    return worker.engine.next(Generate), response.headers.get(IGNORED)


def grammar_of(worker, path=CHATS, body=CHAT, **fields) -> str | None:
    message, ignored = asked(worker, path, body, **fields)
    assert ignored is None
    return message.sampling.grammar


def prompt_of(worker) -> str:
    """The prompt of the next request that the engine gets."""
    return worker.engine.text(worker.engine.next(Generate).prompt)


def error_of(response) -> dict:
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert isinstance(error["message"], str) and error["message"]
    assert all(name in response.headers for name in ALWAYS)
    return error


def tool_use(*functions: dict, notation: Notation = NO_NOTATION, **options) -> ToolUse:
    """The tools of a request with these functions, for a model with that ``notation``."""
    tools = [{"type": "function", "function": function} for function in functions]
    body, _ = validate(ChatBody, CHAT | {"tools": tools} | options)
    return prompt_tools.tool_use(to_conversation(body), notation)
