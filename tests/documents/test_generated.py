"""The documents that follow from the code are current, and leave nothing out."""

import re

import click
import httpx2
import pytest
import tomli
from documents import api, cli, configuration
from documents.comments import SHIPPED, read_comments
from documents.markdown import ROOT
from documents.node import KEY
from documents.schema_words import kind_of

from mlxnode.cli.group import COMMANDS
from mlxnode.config.tables import ApiConfig, KeyConfig, ModelConfig

HINT = "run `make docs`"


def test_configuration_is_current():
    assert configuration.DOCUMENT.read_text(encoding="utf-8") == configuration.text(), HINT


def test_command_line_is_current():
    assert cli.DOCUMENT.read_text(encoding="utf-8") == cli.text(), HINT


def test_command_line_has_every_command_and_the_codes_of_those_that_have_own_ones():
    found = {name.removeprefix("mlxnode "): context.command for name, context in cli.commands()}
    assert set(COMMANDS) | set(cli.CODES) <= found.keys()
    assert "service install" in found
    text = cli.text()
    for name, command in found.items():
        assert f" mlxnode {name}\n" in text
        for option in (param for param in command.params if isinstance(param, click.Option)):
            assert (
                option.hidden or f"`{', '.join(option.opts)}" in text or "--help" in option.opts
            )
    assert re.findall(r"(?m)^\| (\d+) \|", text) == ["0", "1", "2", "130", "141"]


@pytest.mark.slow
def test_api_is_current(examples):
    assert api.DOCUMENT.read_text(encoding="utf-8") == api.text(examples), HINT


@pytest.mark.slow
def test_each_field_of_a_body_has_a_meaning(examples):
    headers = {"authorization": f"Bearer {KEY}"}
    answer = httpx2.get(f"{examples.url}/openapi.json", headers=headers)
    assert api.fields_of(answer.json()) == set(api.MEANINGS)


def test_each_variable_of_the_environment_is_listed():
    text = "".join(file.read_text() for file in (ROOT / "mlxnode").rglob("*.py"))
    assert set(re.findall(r"\bMLXNODE_[A-Z_]+\b", text)) == set(configuration.VARIABLES)


@pytest.mark.parametrize("name", list(configuration.TABLES))
def test_each_key_that_the_shipped_file_shows_has_a_meaning(name):
    comments = read_comments()
    shown = comments[name].examples if name in comments else {}
    table = configuration.TABLES[name]
    keys = {key.name.strip("`"): key for key in configuration.keys(table, comments, name)}
    assert not [key for key in shown if key in keys and not keys[key].meaning]


def test_each_table_of_the_configuration_is_in_the_document():
    """One that ``mlxnode.config.tables`` gets later is not forgotten."""
    nested = {
        name
        for table in configuration.TABLES.values()
        for name in set(re.findall(r"(\w+Config)\b", str(table.model_fields)))
    }
    assert nested <= {table.__name__ for table in configuration.TABLES.values()}


def test_comments_belong_to_their_keys():
    text = """# Of the file.

[api]  # in the head
# Two lines before
# a key.
a = 1
b = "x # y"                 # of b;
                            # goes on
# c = [1, 2]                # off; default: 3

# Each [api.models.<id>] is one.
# path: a place,
#       or two
[api.models.mine]
path = "p"
"""
    comments = read_comments(text)
    assert comments["api"].intro == "In the head."
    assert comments["api"].keys == {
        "a": "Two lines before a key.",
        "b": "of b; goes on",
        "c": "off; default: 3",
    }
    assert comments["api.models.<id>"].intro == "Each [api.models.<id>] is one."
    assert comments["api.models.<id>"].keys == {"path": "a place, or two"}


def test_keys_show_type_range_default_and_the_models_that_have_them():
    comments = read_comments()
    found = {
        key.name: key for key in configuration.keys(ModelConfig, comments, "api.models.<id>")
    }
    assert found["`path`"].default == "required"
    assert found["`context_length`"].kind == "integer from 1"
    assert found["`thinking_budget`"].models == "chat"
    assert found["`default_temperature`"].models == "chat, completion"
    assert found["`kv_cache_bits`"].kind == "`0` \\| `4` \\| `8`"
    weight = {key.name: key for key in configuration.keys(KeyConfig, comments, "x")}["`weight`"]
    assert (weight.kind, weight.default) == ("number 0.01 to 100", "`1.0`")
    own = [key.name for key in configuration.keys(ApiConfig, comments, "api")]
    assert "`keys`" not in own and "`models`" not in own and "`address`" in own


def test_the_shipped_file_is_what_is_read():
    assert tomli.loads(SHIPPED.read_text())["api"]["address"] == "127.0.0.1:8080"
    assert "api_key" in read_comments()["api"].keys


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": ["integer", "string"], "minimum": 1, "pattern": "x"}, "integer from 1"),
        ({"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, "integer from 0"),
        ({"type": "number", "minimum": 0, "maximum": 2}, "number 0 to 2"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"enum": ["end", "END", None]}, '`"end"`'),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({}, "anything"),
    ],
)
def test_schemas_in_words(schema, words):
    assert kind_of(schema) == words
