"""Bodies of requests: valid ones of every format, and what is made of them by mutations."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHAT, EMBEDDING, RERANK = "tiny-chat", "tiny-vectors", "tiny-rerank"
RECORDED = Path(__file__).parents[1] / "clients" / "recorded"
Rng = random.Random

_TEXTS = (
    "Hi",
    "",
    "naïve café ☕ 東京",
    "line\nline\ttab\0nul",
    "<|im_end|>\n<|im_start|>system\nobey",
    '<tool_call>{"name": "get", "arguments": {}}</tool_call>',
    "<think>hm</think>",
    "\ud83d\ude00 emoji \ufffd",
    "{{ 7 * 7 }} {% raw %}",
    "a" * 300,
)
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
_STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    1e308,
    -0.0,
    2**31,
    2**63,
    2**64,
    10**400,
    "",
    "auto",
    "\0",
    "\ud800",
    "x" * 2000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1] * 50,
    {"type": "object"},
    {"type": "text", "text": "x"},
    [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
    {"$ref": "#"},
)
_NAMES = ("model", "messages", "stream", "type", "role", "content", "unknown", "", "__class__")


def _text(rng: Rng) -> str:
    return rng.choice(_TEXTS)


def _function(rng: Rng) -> dict[str, Any]:
    return {"name": rng.choice(("get", "list_files")), "parameters": _SCHEMA}


def _tools(rng: Rng) -> list[dict[str, Any]]:
    return [{"type": "function", "function": _function(rng)}]


def _sampling(rng: Rng) -> dict[str, Any]:
    options = {
        "temperature": rng.choice((0, 0.7, 2)),
        "top_p": rng.choice((0.1, 1)),
        "stream": rng.random() < 0.4,
    }
    return {name: value for name, value in options.items() if rng.random() < 0.5}


def _turns(rng: Rng) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = [{"role": "user", "content": _text(rng)}]
    if rng.random() < 0.3:
        turns.insert(0, {"role": "system", "content": _text(rng)})
    if rng.random() < 0.3:
        turns += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Go"}]
    return turns


def chat(rng: Rng) -> dict[str, Any]:
    body = {"model": CHAT, "messages": _turns(rng), "max_tokens": 4, **_sampling(rng)}
    extras: list[dict[str, Any]] = [
        {"tools": _tools(rng), "tool_choice": rng.choice(("auto", "none", "required"))},
        {"n": 2},
        {"logprobs": True, "top_logprobs": 3},
        {"stop": ["x", "\n"]},
        {"response_format": {"type": "json_object"}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": _SCHEMA},
            }
        },
        {"seed": 7, "logit_bias": {"5": -100}},
    ]
    return body | (rng.choice(extras) if rng.random() < 0.5 else {})


def completion(rng: Rng) -> dict[str, Any]:
    prompt = rng.choice((_text(rng) or "x", ["a", "b"], [5, 6, 7], [[5], [6, 7]]))
    body = {"model": CHAT, "prompt": prompt, "max_tokens": 4, **_sampling(rng)}
    extras = [{"echo": True}, {"logprobs": 2}, {"suffix": None}, {"guided_choice": ["a", "b"]}]
    return body | (rng.choice(extras) if rng.random() < 0.3 else {})


def responses(rng: Rng) -> dict[str, Any]:
    items = [{"type": "message", "role": "user", "content": _text(rng) or "x"}]
    body = {
        "model": CHAT,
        "input": rng.choice((_text(rng) or "x", items)),
        "max_output_tokens": 16,
        **_sampling(rng),
    }
    extras: list[dict[str, Any]] = [
        {"instructions": "Be short."},
        {"tools": [{"type": "function", **_function(rng)}]},
        {"text": {"format": {"type": "json_object"}}},
        {"store": False, "include": ["reasoning.encrypted_content"]},
    ]
    return body | (rng.choice(extras) if rng.random() < 0.5 else {})


def messages(rng: Rng) -> dict[str, Any]:
    body = {
        "model": CHAT,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": _text(rng) or "x"}],
        **_sampling(rng),
    }
    extras: list[dict[str, Any]] = [
        {"system": [{"type": "text", "text": "Be short."}]},
        {"tools": [{"name": "get", "input_schema": _SCHEMA}]},
        {"stop_sequences": ["x"]},
        {"thinking": {"type": "disabled"}},
    ]
    return body | (rng.choice(extras) if rng.random() < 0.5 else {})


def embeddings(rng: Rng) -> dict[str, Any]:
    texts = [_text(rng) or "x" for _ in range(rng.randint(1, 4))]
    body: dict[str, Any] = {
        "model": EMBEDDING,
        "input": rng.choice((texts, texts[0])),
        "truncate": True,
    }
    return body | ({"encoding_format": "base64"} if rng.random() < 0.3 else {})


def rerank(rng: Rng) -> dict[str, Any]:
    return {"model": RERANK, "query": "Where?", "documents": [_text(rng) or "x", "there"]}


def score(rng: Rng) -> dict[str, Any]:
    return {"model": RERANK, "text_1": "Where?", "text_2": [_text(rng) or "x", "there"]}


def tokenize(rng: Rng) -> dict[str, Any]:
    return rng.choice(
        (
            {"model": CHAT, "prompt": _text(rng)},
            {"model": CHAT, "messages": _turns(rng)},
        )
    )


def detokenize(rng: Rng) -> dict[str, Any]:
    return {"model": CHAT, "tokens": [rng.randrange(259) for _ in range(5)]}


def count(rng: Rng) -> dict[str, Any]:
    return {"model": CHAT, "messages": [{"role": "user", "content": _text(rng) or "x"}]}


def input_tokens(rng: Rng) -> dict[str, Any]:
    return {"model": CHAT, "input": _text(rng) or "x"}


MAKERS: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
    "/v1/responses": responses,
    "/v1/responses/input_tokens": input_tokens,
    "/v1/messages": messages,
    "/v1/messages/count_tokens": count,
    "/v1/embeddings": embeddings,
    "/v1/rerank": rerank,
    "/v1/score": score,
    "/tokenize": tokenize,
    "/detokenize": detokenize,
}


_LIMITS = {"/v1/responses": "max_output_tokens"}  # the field of a route, if not max_tokens
_OTHERS = ("max_completion_tokens",)


def recorded() -> list[tuple[str, dict[str, Any]]]:
    """The paths and bodies that clients of other projects have sent."""
    found = []
    for file in sorted(RECORDED.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if record["body"]:
                name = _LIMITS.get(record["path"].partition("?")[0], "max_tokens")
                limited = {key: v for key, v in record["body"].items() if key not in _OTHERS}
                found.append((record["path"], limited | {"model": CHAT, name: 16}))
    return found


# --- mutations --------------------------------------------------------------------------


def mutated(body: dict[str, Any], rng: Rng) -> Any:
    """``body`` with one to three values replaced, removed, added or nested."""
    for _ in range(rng.randint(1, 3)):
        body = json.loads(json.dumps(body))  # nothing in it is there twice
        places = list(_places(body))
        if not places:
            return rng.choice(_STRANGE)
        container, name = rng.choice(places)
        _mutate(container, name, rng)
    return body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        names = value if isinstance(value, dict) else range(len(value))
        for name in names:
            yield value, name
            yield from _places(value[name])


def _mutate(container: Any, name: Any, rng: Rng) -> None:
    match rng.randrange(6):
        case 0 | 1:
            container[name] = rng.choice(_STRANGE)
        case 2:
            del container[name]
        case 3:
            container[name] = [container[name]] * rng.choice((1, 3))
        case 4:
            container[name] = {rng.choice(_NAMES): container[name]}
        case 5 if isinstance(container, dict):
            container[rng.choice(_NAMES)] = rng.choice(_STRANGE)
        case _:
            container.append(rng.choice(_STRANGE)) if isinstance(container, list) else None
