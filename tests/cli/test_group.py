"""The frame of all commands: help, suggestions, errors, exit codes, light imports."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mlxnode.cli import main
from mlxnode.cli.group import COMMANDS, group


def command_of(name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


def leaves(name: str) -> list[click.Command]:
    """The command, or the commands of a group."""
    command = command_of(name)
    return list(command.commands.values()) if isinstance(command, click.Group) else [command]


def test_help_lists_every_command_and_the_exit_codes():
    text = CliRunner().invoke(group, ["--help"]).output
    for name, (_, short) in COMMANDS.items():
        assert f"  {name} " in text and short.split()[0] in text
    for code in ("0 ended as asked", "1 cannot", "2 wrong command line", "130", "141"):
        assert code in " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_says_the_same_and_has_examples(name):
    short = COMMANDS[name][1]
    command = command_of(name)
    assert command.help and command.help.splitlines()[0] == short
    text = CliRunner().invoke(command, ["--help"]).output
    assert f"\nExamples:\n  mlxnode {name}" in text or "mlxnode " in text.split("Examples:")[1]
    assert "--help" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_print_json(name):
    for command in leaves(name):
        names = [option for param in command.params for option in param.opts]
        assert "--json" in names, command.name


@pytest.mark.parametrize("name", COMMANDS)
def test_option_of_a_command_is_explained(name):
    for command in leaves(name):
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help, f"{command.name} {param.opts}"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["statu"], "mlxnode: there is no command 'statu'; did you mean status?"),
        (["xyz"], "mlxnode: there is no command 'xyz'; see mlxnode --help"),
        (["status", "--jsn"], "mlxnode: no such option '--jsn'"),
        (["--verbose"], "mlxnode: no such option '--verbose'"),
        (["status", "extra"], "mlxnode: got unexpected extra argument (extra)"),
        (["serve", "--workers", "many"], "'many' is not a valid integer"),
        (["status", "--address", "nowhere"], 'api.address = "nowhere": expected "host:port"'),
    ],
)
def test_wrong_command_line_is_one_line_and_exit_code_2(capsys, words, text):
    assert main(words) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert text in written.err and written.err.count("\n") == 1


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "Examples:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["status", "--address", "127.0.0.1:1", "--json"], 1, "no node answers on port 1"),
        (["status", "--address", "x", "--json"], 2, "expected"),
        (["status", "--json", "--oops"], 2, "no such option '--oops'"),
    ],
)
def test_error_with_json_is_a_document_too(capsys, words, code, text):
    assert main(words) == code
    written = capsys.readouterr()
    error = json.loads(written.out)["error"]
    assert text in error and written.err == f"mlxnode: {error}\n"


def test_ctrl_c_exits_with_130(monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlxnode.cli.loading.load_config", interrupt)
    assert main(["models"]) == 130


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["status", "--help"]])
@pytest.mark.slow
def test_help_imports_little(words):
    code = (
        "import sys; from mlxnode.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'mlx', 'sanic', 'numpy', 'transformers', 'huggingface_hub', 'rich'};"
        "heavy |= {'pydantic'}; print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert result.stderr.strip() == "0 []"
