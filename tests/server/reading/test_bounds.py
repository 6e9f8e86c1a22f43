"""What a body costs to read is bounded: its first error ends it, and work is linear."""

import json
import time
import tracemalloc

import pytest
from pydantic import ValidationError
from support.cpu_time import cpu_time
from support.hostile_bodies import BODIES

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.formats.fields import MAX_INPUTS
from mlxnode.server.formats.loose import LooseJsonSchema
from mlxnode.server.formats.messages.schema import MessagesBody
from mlxnode.server.formats.rerank.schema import RerankBody
from mlxnode.server.formats.responses.schema import ResponsesBody
from mlxnode.server.formats.tokens.schema import schema_of
from mlxnode.server.json_text import MAX_DEPTH, TooDeep, load_json, without_strings
from mlxnode.server.reading.reader_process import Order, read
from mlxnode.server.reading.shape import MAX_VALUES
from mlxnode.server.reading.strict_json import parse_json
from mlxnode.server.reading.validation import validate

SCHEMAS = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/responses": ResponsesBody,
    "/v1/messages": MessagesBody,
    "/v1/messages/count_tokens": MessagesBody,
    "/v1/embeddings": EmbeddingBody,
    "/v1/rerank": RerankBody,
    "/tokenize": schema_of,
}


def seconds(kind: str, size: int) -> float:
    """CPU time to read a body of this kind, valid or not."""
    path, make = BODIES[kind]
    body, order = make(size), Order(SCHEMAS[path], False, {})
    with cpu_time() as spent:
        try:
            read(body, order)
        except InvalidRequest as error:
            assert len(error.message) <= 1000
    return spent.seconds


@pytest.mark.slow
@pytest.mark.parametrize("kind", BODIES)
def test_eight_times_the_body_takes_no_more_than_linear_time(kind):
    seconds(kind, 1000)
    small = min(seconds(kind, 100_000) for _ in range(3))
    assert seconds(kind, 800_000) < 0.2 + 40 * small  # quadratic work would be 64 times


INVALID = {
    ChatBody: [
        {"messages": [3] * 9000},
        {"messages": [{"role": "user", "content": [{}] * 9000}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}] * 9000}]},
        {"messages": [{"role": "assistant", "reasoning_details": [1] * 9000}]},
        {"tools": [{}] * 128},
        {"stop": [1] * 64},
        {"logit_bias": {f"{n}x": "a" for n in range(9000)}},
        {"chat_template_kwargs": {"x" * 70 + str(n): 1 for n in range(9000)}},
    ],
    CompletionBody: [{"prompt": ["a", *[1] * 9000]}, {"prompt": [1, *["a"] * 9000]}],
    EmbeddingBody: [{"input": [["a"]] * 2000}],
    RerankBody: [{"documents": [1] * 2000}, {"documents": [{}] * 2000}],
    ResponsesBody: [
        {"input": [{"type": "message"}] * 9000},
        {"input": [{"role": "user", "content": [{}] * 9000}]},
        {"tools": [{"type": "namespace", "name": "a", "tools": [{"type": "function"}] * 99}]},
    ],
    MessagesBody: [
        {"messages": [{"role": "user", "content": [{"type": "text"}] * 9000}]},
        {"messages": [{"role": "user", "content": [{"type": "image"}] * 9000}]},
        {"system": [{}] * 9000},
    ],
}


@pytest.mark.parametrize(
    ("schema", "fields"),
    [(schema, fields) for schema, bodies in INVALID.items() for fields in bodies],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_the_first_invalid_item_ends_the_reading(schema, fields):
    with pytest.raises(ValidationError) as caught:
        schema.model_validate({"model": "m", **fields})
    assert caught.value.error_count() < 40


def long_lists(schema) -> dict[str, int]:
    """The bounds of the lists that may be long, by their fields, as the document has them."""
    described = schema.model_json_schema(schema_generator=LooseJsonSchema)
    found = {}
    for name, owner in {schema.__name__: described, **described["$defs"]}.items():
        for field, value in owner.get("properties", {}).items():
            for branch in [value, *value.get("anyOf", ())]:
                if branch.get("maxItems", 0) > MAX_INPUTS:
                    found[f"{name}.{field}"] = branch["maxItems"]
    return found


def conversation(**fields) -> dict:
    return {"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", **fields}]}


TEXT = {"type": "text", "text": "a"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
LONG = {
    ChatBody: {
        "ChatBody.messages": lambda n: {"model": "m", "messages": [{"role": "assistant"}] * n},
        "Message.content": lambda n: conversation(content=[TEXT] * n),
        "Message.reasoning_details": lambda n: conversation(reasoning_details=[{}] * n),
        "Message.tool_calls": lambda n: conversation(tool_calls=[CALL] * n),
    },
    MessagesBody: {
        "MessagesBody.messages": lambda n: (
            conversation() | {"messages": [{"role": "assistant"}] * n}
        ),
        "Message.content": lambda n: conversation(content=[TEXT] * n),
    },
    ResponsesBody: {
        "ResponsesBody.input": lambda n: {
            "model": "m",
            "input": [{"role": "user", "content": "a"}] * n,
        },
        "MessageItem.content": lambda n: {
            "model": "m",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}] * n}],
        },
    },
}


@pytest.mark.parametrize(
    ("schema", "field"),
    [(schema, field) for schema, fields in LONG.items() for field in fields],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_long_lists_have_the_bounds_of_their_schema(schema, field):
    bounds = long_lists(schema)
    assert set(bounds) == set(LONG[schema])
    make = LONG[schema][field]
    validate(schema, make(bounds[field]))
    with pytest.raises(InvalidRequest) as caught:
        validate(schema, make(bounds[field] + 1))
    assert caught.value.code == "array_above_max_length"
    assert str(bounds[field]) in caught.value.message


def test_a_body_of_invalid_items_takes_little_memory():
    body = json.dumps({"model": "m", "messages": [3] * 400_000}).encode()
    tracemalloc.start()
    with pytest.raises(InvalidRequest):
        read(body, Order(ChatBody, False, {}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * len(body)


@pytest.mark.parametrize("item", ['""', "{}", "[]", '{"a":1}'])
def test_values_are_counted_before_they_are_built(item):
    body = b'{"a":[' + b",".join([item.encode()] * (MAX_VALUES + 1)) + b"]}"
    tracemalloc.start()
    with pytest.raises(InvalidRequest) as caught:
        parse_json(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == "too_many_values" and str(MAX_VALUES) in caught.value.message
    assert peak < 16 * len(body)


def test_what_a_text_holds_is_no_value():
    text = '"{[' * MAX_VALUES
    assert parse_json(json.dumps({"a": text}).encode()) == {"a": text}


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 900_000, '\\"' * 900_000 + "\\", '"a"' * 600_000]
)
def test_strings_are_left_out_in_linear_time(text):
    started = time.thread_time()
    without_strings(text)
    assert time.thread_time() - started < 5  # quadratic work would take hours


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_levels_are_bounded(opening, closing):
    per_item = opening.count("[") + opening.count("{")
    count = MAX_DEPTH // per_item
    assert load_json(opening * count + "1" + closing * count)
    with pytest.raises(TooDeep):
        load_json(opening * (count + 1) + "1" + closing * (count + 1))
    wide = "[" + ",".join([opening + "1" + closing] * 1000) + "]"
    assert len(load_json(wide)) == 1000


def test_brackets_within_texts_are_no_levels():
    text = '["' + "[{" * 1000 + '\\"' + "[{" * 1000 + '"]'
    assert len(load_json(text)[0]) == 4001


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": ' + b"9" * 5000 + b"}", "an integer has more than 4300 digits"),
        (b'{"' + b"k" * 5000 + b'": 1, "' + b"k" * 5000 + b'": 1}', "is given twice"),
        (b'{"a": 1' + b"0" * 5000 + b".5}", "is too large"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
    ],
)
def test_errors_are_short_and_in_words_of_json(body, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse_json(body)
    assert len(caught.value.message) < 300 and "sys." not in caught.value.message
