"""What the user types: commands, messages of several lines, parameters."""

import io

import pytest

from mlxnode.chat import commands, settings
from mlxnode.chat.commands import Command, UnknownCommand
from mlxnode.chat.reading import PlainReader, is_open, unquoted
from mlxnode.errors import ConfigError


@pytest.mark.parametrize(
    ("message", "parsed"),
    [
        ("hello", "hello"),
        ("/help", Command("/help", "")),
        ("/exit", Command("/bye", "")),
        ("/system  Be\nbrief. ", Command("/system", "Be\nbrief.")),
        ("/save! a b.md", Command("/save", "a b.md", True)),
        ("//system", "/system"),
        ("/etc/hosts is what?", "/etc/hosts is what?"),
        ("/ is a slash", "/ is a slash"),
    ],
)
def test_commands_are_told_from_messages(message, parsed):
    assert commands.parse(message) == parsed


@pytest.mark.parametrize(
    ("message", "text"), [("/hlep", "did you mean /help"), ("/image a.png", "/help lists")]
)
def test_unknown_command_is_no_message(message, text):
    with pytest.raises(UnknownCommand, match=text):
        commands.parse(message)


def test_help_has_every_command():
    assert all(name in commands.help_text() for name in commands.COMMANDS)


@pytest.mark.parametrize(
    ("text", "is_unfinished"),
    [
        ("hello", False),
        ('"""', True),
        ('"""a', True),
        ('"""a"""', False),
        ('/system """a', True),
        ('the mark """', False),
    ],
)
def test_open_quotes_continue_a_message(text, is_unfinished):
    assert is_open(text) is is_unfinished


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  hello \n", "hello"),
        ('"""\na\n\nb\n"""', "a\n\nb"),
        ('/system """a\nb"""', "/system a\nb"),
        ('"""', '"""'),
    ],
)
def test_unquoted_is_the_message(text, message):
    assert unquoted(text) == message


def test_plain_reader_joins_lines(monkeypatch, capsys):
    typed = 'one\n\ntwo \\\nlines\n"""a\n\\\n\nb"""\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    reader = PlainReader()
    assert [reader.read() for _ in range(4)] == ["one", "", "two \nlines", "a\n\\\n\nb"]
    with pytest.raises(EOFError):
        reader.read()
    assert capsys.readouterr().out.startswith(">>> >>> >>> ... >>> ... ")


def test_settings_have_values_of_their_kinds():
    assert settings.parse_all(["temperature=0.3", "top_k=5", "stop=a=b\\n"]) == {
        "temperature": 0.3,
        "top_k": 5,
        "stop": ["a=b\n"],
    }


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("temperature", "--set temperature: expected NAME=VALUE"),
        ("temperature=hot", "temperature must be a number from 0 to 2, got 'hot'"),
        ("temperature=nan", "temperature must be a number"),
        ("top_k=1.5", "top_k must be a whole number, got '1.5'"),
        ("heat=1", "there is no parameter heat; there are temperature"),
        ("stop=", "stop must be a text"),
    ],
)
def test_settings_name_what_is_wrong(assignment, text):
    with pytest.raises(ConfigError, match=text):
        settings.parse_all([assignment])
