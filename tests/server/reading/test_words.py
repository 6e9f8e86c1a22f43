"""Errors are told in words of JSON and of the API, never in those of Python."""

import json
import re

import pytest

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.formats.messages.schema import MessagesBody
from mlxnode.server.formats.rerank.schema import RerankBody, ScoreBody
from mlxnode.server.formats.responses.schema import ResponsesBody
from mlxnode.server.formats.tokens.schema import TextBody, TokensBody
from mlxnode.server.reading.reader_process import Order, read

PYTHON = re.compile(
    r"Input should|NoneType|\bNone\b|\bTrue\b|\bFalse\b|\bdict\b|\btuple\b|\bstr\b|\bint\("
    r"|sys\.|codec|recursion|Traceback|pydantic|Value error|class|object at 0x|instance"
    r"|validator"
)
BODIES = {
    ChatBody: {"messages": [{"role": "user", "content": "a"}]},
    CompletionBody: {"prompt": "a"},
    EmbeddingBody: {"input": "a"},
    MessagesBody: {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5},
    RerankBody: {"query": "a", "documents": ["a"]},
    ScoreBody: {"text_1": "a", "text_2": "a"},
    ResponsesBody: {"input": "a"},
    TextBody: {"prompt": "a"},
    TokensBody: {"tokens": [1]},
}
ODD = [
    *(True, 0, -7, 1.5, -0.5, 10**30, 10**400, "", "x", "7", "yes", "\x00", "é" * 300),
    *([], [[]], [None], [1, "a"], [{}], [True], ["a", 1], [-1], [1.5], [10**40], [[1, -1]]),
    *({}, {"a": 1}, {"type": None}, {"type": 5}, {"type": "x"}, {"type": "function"}),
    *({"role": "user"}, [{"role": 5}], [{"role": "user"}], [{"role": "user", "content": 5}]),
    *([{"role": "user", "content": [{"type": "x"}]}], [{"type": "function", "function": {}}]),
    *([{"type": "image"}], [{"name": ""}], [{"text": 5}], {"5": "a"}, {"x": 5}, {"5": 1000}),
    *([{"role": "assistant", "tool_calls": [{}]}], {"type": "json_schema"}, {"effort": "x"}),
    *({"type": "json_schema", "json_schema": {"schema": 5}}, {"type": "enabled", "x": []}),
]


@pytest.mark.parametrize("schema", BODIES)
def test_no_error_of_a_field_has_words_of_python(schema):
    names = {field.alias or name for name, field in schema.model_fields.items()}
    names |= {*schema.neutral, *schema.harmless, *schema.spellings}
    for name in sorted(names):
        for value in ODD:
            fields = {"model": "m"} | BODIES[schema] | {name: value}
            body = json.dumps(fields).encode()
            try:
                read(body, Order(schema, True, {}))
            except InvalidRequest as error:
                assert not PYTHON.search(error.message), error.message
                assert len(error.message) <= 1000
                assert error.param is None or error.param.split("[")[0].split(".")[0] in names


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"{", b"[", b"]", b'"', b"nul", b"nan", b"NaN", b"-", b"+1", b"1e", b".5"),
        *(
            b"'a'",
            b"{a: 1}",
            b'{"a" 1}',
            b'{"a": 1,}',
            b'{"a": 1} x',
            b'{"a": "\\x"}',
            b'{"a": "',
        ),
        *(
            b'{"a": "\\u12"}',
            b"\xff",
            b'{"a": "\xc3"}',
            b"\xff\xfe{\0}\0",
            b"// a\n{}",
            b"null",
        ),
        *(b'{"a": ' + b"1" * 9999 + b"}", b"[" * 9999, b'{"a": Infinity}', b'{"a": 1e999}'),
        *(b'{"a": 01}', b'{"a": 0x1}', b'{"a": 1_0}', b"True", b'{"a": undefined}', b"\0"),
    ],
)
def test_no_error_of_a_text_has_words_of_python(body):
    with pytest.raises(InvalidRequest) as caught:
        read(body, Order(ChatBody, False, {}))
    assert not PYTHON.search(caught.value.message), caught.value.message
