"""Bodies that once held up a worker, and others of their kinds, at any size."""

import json
from collections.abc import Callable
from typing import Any

CHAT, EMBEDDING = "tiny-chat", "tiny-embedding"
USER = {"role": "user", "content": "hi"}
ENGLISH = "The quick brown fox jumps over the lazy dog, and nobody knows why. "

Make = Callable[[int], bytes]  # of about so many bytes


def _chat(**fields: Any) -> bytes:
    return json.dumps({"model": CHAT, "messages": [USER], **fields}).encode()


def _within(before: str, item: str, after: str, separator: str = ",") -> Make:
    """``item`` as often as it fits."""

    def make(size: int) -> bytes:
        count = max(1, size // (len(item) + len(separator)))
        return (before + separator.join([item] * count) + after).encode()

    return make


def _keys(
    last: str, head: str = f'"model": "{CHAT}", "messages": [{json.dumps(USER)}]'
) -> Make:
    def make(size: int) -> bytes:
        keys = ",".join(f'"k{number}":1' for number in range(size // 11))
        return f"{{{head},{keys},{last}}}".encode()

    return make


def _text(place: Callable[[str], dict[str, Any]]) -> Make:
    return lambda size: _chat(**place(ENGLISH * max(1, size // len(ENGLISH))))


def _called(text: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": json.dumps({"text": text})}
    return {"messages": [USER, {"role": "assistant", "tool_calls": [{"function": function}]}]}


def _described(text: str) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", "description": text}}]}


_OPEN = f'{{"model": "{CHAT}", "messages": ['
_PARTS = _OPEN + '{"role": "user", "content": ['
_MESSAGES = f'{{"model": "{CHAT}", "max_tokens": 5, "messages": ['
_INPUT = f'{{"model": "{CHAT}", "input": ['
_EMBED = f'{{"model": "{EMBEDDING}", "input": ['
_RERANK = f'{{"model": "{EMBEDDING}", "query": "a", "documents": ['

# The path and the body of each.
BODIES: dict[str, tuple[str, Make]] = {
    "a key twice": ("/v1/chat/completions", _keys('"k1":2')),
    "unknown fields": ("/v1/chat/completions", _keys('"last":2')),
    "empty messages": (
        "/v1/chat/completions",
        _within(_OPEN, '{"role":"user","content":""}', "]}"),
    ),
    "messages with unknown fields": (
        "/v1/chat/completions",
        _within(_OPEN, '{"role":"user","content":"","a":1,"b":2}', "]}"),
    ),
    "invalid messages": ("/v1/chat/completions", _within(_OPEN, "3", "]}")),
    "messages without a role": ("/v1/chat/completions", _within(_OPEN, "{}", "]}")),
    "loose messages": (
        "/v1/chat/completions",
        _within(_OPEN, '{"role":"assistant","content":"a","tool_calls":{}}', "]}"),
    ),
    "empty parts": (
        "/v1/chat/completions",
        _within(_PARTS, '{"type":"text","text":""}', "]}]}"),
    ),
    "invalid parts": ("/v1/chat/completions", _within(_PARTS, '{"type":1}', "]}]}")),
    "calls": (
        "/v1/chat/completions",
        _within(
            _OPEN + '{"role":"assistant","tool_calls":[', '{"function":{"name":"f"}}', "]}]}"
        ),
    ),
    "tools": (
        "/v1/chat/completions",
        _within(_OPEN + '{"role":"user","content":"a"}],"tools":[', '{"function":1}', "]}"),
    ),
    "biases": (
        "/v1/chat/completions",
        lambda size: _chat(logit_bias={f"{n}x": "a" for n in range(size // 14)}),
    ),
    "stops": (
        "/v1/chat/completions",
        _within(_OPEN + '{"role":"user","content":"a"}],"stop":[', "1", "]}"),
    ),
    "notes": (
        "/v1/chat/completions",
        _within(_OPEN + '{"role":"user","content":"a"}],"metadata":[', '{"a":[]}', "]}"),
    ),
    "levels": (
        "/v1/chat/completions",
        lambda size: b'{"a":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
    ),
    "objects within objects": (
        "/v1/chat/completions",
        lambda size: b'{"a":' * (size // 6) + b"1" + b"}" * (size // 6),
    ),
    "a long number": ("/v1/chat/completions", lambda size: b'{"a":' + b"1" * size + b"}"),
    "a long fraction": ("/v1/chat/completions", lambda size: b'{"a":1.' + b"1" * size + b"}"),
    "fractions": ("/v1/chat/completions", _within('{"a":[', "1.5", "]}")),
    "an open string": ("/v1/chat/completions", lambda size: b'{"a":"' + b'\\"' * (size // 2)),
    "an open string of brackets": (
        "/v1/chat/completions",
        lambda size: b'{"a":"' + b'\\"[' * (size // 3),
    ),
    "halves of characters": (
        "/v1/chat/completions",
        lambda size: b'{"a":"' + rb"\ud800" * (size // 6) + b'"}',
    ),
    "a long role": (
        "/v1/chat/completions",
        lambda size: _chat(messages=[{"role": "x" * size}]),
    ),
    "a long name of a field": ("/v1/chat/completions", lambda size: _chat(**{"x" * size: 1})),
    "a long text": (
        "/v1/chat/completions",
        _text(lambda text: {"messages": [USER | {"content": text}]}),
    ),
    "a long description": ("/v1/chat/completions", _text(_described)),
    "long arguments": ("/v1/chat/completions", _text(_called)),
    "a long name": (
        "/v1/chat/completions",
        _text(lambda text: {"messages": [USER | {"name": text}]}),
    ),
    "control tokens": (
        "/v1/chat/completions",
        lambda size: _chat(messages=[USER | {"content": "<|im_end|>" * (size // 10)}]),
    ),
    "a long prompt": (
        "/v1/completions",
        lambda size: json.dumps(
            {"model": CHAT, "prompt": ENGLISH * (size // len(ENGLISH))}
        ).encode(),
    ),
    "long token ids": (
        "/v1/completions",
        _within(f'{{"model": "{CHAT}", "prompt": [', "5", "]}"),
    ),
    "items": ("/v1/responses", _within(_INPUT, '{"role":"user","content":""}', "]}")),
    "invalid items": ("/v1/responses", _within(_INPUT, '{"type":"message"}', "]}")),
    "other items": ("/v1/responses", _within(_INPUT, '{"type":"x","y":1}', "]}")),
    "blocks": (
        "/v1/messages",
        _within(_MESSAGES + '{"role":"user","content":[', '{"type":"text","text":""}', "]}]}"),
    ),
    "a long system prompt": (
        "/v1/messages/count_tokens",
        lambda size: json.dumps(
            {"model": CHAT, "messages": [USER], "system": ENGLISH * (size // len(ENGLISH))}
        ).encode(),
    ),
    "inputs": ("/v1/embeddings", _within(_EMBED, '"a"', "]}")),
    "invalid inputs": ("/v1/embeddings", _within(_EMBED + '"a",', "3", "]}")),
    "token lists": ("/v1/embeddings", _within(_EMBED, "[5]", "]}")),
    "a long input": (
        "/v1/embeddings",
        lambda size: json.dumps(
            {"model": EMBEDDING, "input": ENGLISH * (size // len(ENGLISH)), "truncate": True}
        ).encode(),
    ),
    "documents": ("/v1/rerank", _within(_RERANK, '{"text":"a"}', "]}")),
    "a long document": (
        "/v1/rerank",
        lambda size: json.dumps(
            {
                "model": EMBEDDING,
                "query": "a",
                "documents": [ENGLISH * (size // len(ENGLISH))],
            }
        ).encode(),
    ),
    "a text to tokenize": (
        "/tokenize",
        lambda size: json.dumps(
            {"model": CHAT, "prompt": ENGLISH * (size // len(ENGLISH))}
        ).encode(),
    ),
}
