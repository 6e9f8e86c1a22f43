"""The form of an answer: its rows of docs/compatibility.md."""

import json

import pytest
from support.contract import CHAT, CHATS, COMPLETION, TEXTS, error_of, grammar_of, post

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
GBNF = 'root ::= "yes" | "no"'


FORMS_OF_A_SCHEMA = {
    "json_object with schema": {"response_format": {"type": "json_object", "schema": SCHEMA}},
    "json_schema beside its schema": {
        "response_format": {"type": "json_schema", "schema": SCHEMA}
    },
    "json_schema that is the schema": {
        "response_format": {"type": "json_schema", "json_schema": SCHEMA}
    },
    "json_schema without a name": {
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    },
    "json_schema with a space in its name": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "my answer", "schema": SCHEMA, "strict": "false"},
        }
    },
    "schema as text": {
        "response_format": {"type": "json_object", "schema": json.dumps(SCHEMA)}
    },
    "json with value": {"response_format": {"type": "json", "value": SCHEMA}},
    "json_schema": {"json_schema": SCHEMA},
    "format": {"format": SCHEMA},
    "guided_json": {"guided_json": SCHEMA},
    "guided_json as text": {"guided_json": json.dumps(SCHEMA)},
    "structured_outputs": {"structured_outputs": {"json": SCHEMA}},
    "twice the same": {"format": SCHEMA, "response_format": {"type": "json", "value": SCHEMA}},
}


@pytest.mark.parametrize("path", [CHATS, TEXTS])
@pytest.mark.parametrize("fields", FORMS_OF_A_SCHEMA.values(), ids=FORMS_OF_A_SCHEMA)
def test_every_place_of_a_schema_is_understood(plain_worker, path, fields):
    body = CHAT if path == CHATS else COMPLETION
    usual = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    expected = grammar_of(plain_worker, path, body, response_format=usual)
    assert expected is not None and '"properties"' in expected
    assert grammar_of(plain_worker, path, body, **fields) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "json"},
        {"structured_outputs": {"json_object": True}},
        {"response_format": {"type": "json"}},
    ],
)
def test_every_wish_for_json_is_understood(plain_worker, fields):
    expected = grammar_of(plain_worker, response_format={"type": "json_object"})
    assert grammar_of(plain_worker, **fields) == expected


@pytest.mark.parametrize(
    ("fields", "usual"),
    [
        ({"structured_outputs": {"regex": "[0-9]+"}}, {"guided_regex": "[0-9]+"}),
        ({"response_format": {"type": "regex", "value": "a|b"}}, {"guided_regex": "a|b"}),
        ({"structured_outputs": {"choice": ["a", "b"]}}, {"guided_choice": ["a", "b"]}),
        ({"structured_outputs": {"grammar": GBNF}}, {"guided_grammar": GBNF}),
        ({"response_format": {"type": "grammar", "grammar": GBNF}}, {"guided_grammar": GBNF}),
        ({"grammar": GBNF}, {"guided_grammar": 'start: "yes" | "no"'}),
        ({"grammar": ""}, {}),
        ({"format": ""}, {}),
        ({"structured_outputs": {}}, {}),
        ({"structured_outputs": {"json_object": False}}, {}),
    ],
)
def test_every_spelling_of_a_form_is_understood(plain_worker, fields, usual):
    def normal(grammar: str | None) -> str | None:
        return grammar and " ".join(grammar.split())

    assert normal(grammar_of(plain_worker, **fields)) == normal(
        grammar_of(plain_worker, **usual)
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"grammar": GBNF, "json_schema": SCHEMA}, "grammar"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"format": SCHEMA, "response_format": {"type": "json_object"}}, "format"),
    ],
)
def test_two_forms_that_differ_are_refused(plain_worker, fields, param):
    response = post(plain_worker, CHATS, CHAT | fields)
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, "invalid_parameter_combination")
