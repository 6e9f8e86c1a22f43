"""How commands print: tables of any width, JSON of any value, shells that complete."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlxnode.cli import main, output
from mlxnode.cli.output import emit, program
from mlxnode.cli.terminal import Column, console, draw, table

COLUMNS = [
    Column("ID"),
    Column("SIZE", is_right=True),
    Column("NOTE", is_optional=True),
    Column("PATH", is_optional=True),
]
ROWS = [("a-model", "1 MB", "a note", "/a/long/path"), ("b", "10 MB", "", "/b")]


class Struct(msgspec.Struct):
    path: Path


@dataclasses.dataclass
class Plain:
    name: str


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Struct(Path("/a")), {"path": "/a"}),
        ([Plain("é")], [{"name": "é"}]),
        ({"error": None}, {"error": None}),
    ],
)
def test_emit_with_json_prints_one_document(capsys, value, plain):
    emit(value, True, lambda: pytest.fail("the text is not made"))
    assert json.loads(capsys.readouterr().out) == plain


def test_emit_into_a_pipe_cuts_nothing_and_draws_no_colours(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    rows = [("x" * 300, "1 MB", "[red]no markup[/red] :smile:", "/p")]
    emit(None, False, table(COLUMNS, rows))
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "SIZE", "NOTE", "PATH"]
    assert "x" * 300 in line and "[red]no markup[/red] :smile:" in line and "\x1b" not in line


def lines(width: int) -> list[str]:
    screen = console()
    with screen.capture() as capture:
        screen.print(table(COLUMNS, ROWS, width), width=width)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("width", "header"),
    [(80, "ID SIZE NOTE PATH"), (30, "ID SIZE NOTE"), (16, "ID SIZE"), (8, None)],
)
def test_table_leaves_out_what_a_narrow_terminal_has_no_room_for(width, header):
    drawn = lines(width)
    assert max(map(len, drawn)) <= width
    if header is not None:
        assert drawn[0].split() == header.split() and len(drawn) == 3
    assert "a-model" in "".join(line.split()[0] for line in drawn[1:] if line.strip())


def test_draw_leaves_no_spaces_at_the_ends_of_lines(capsys):
    draw(table(COLUMNS, ROWS))
    assert all(line == line.rstrip() for line in capsys.readouterr().out.splitlines())


def test_program_is_the_name_only_where_the_shell_finds_it(tmp_path, monkeypatch):
    script = tmp_path / "a bin" / "mlxnode"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(output.sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "mlxnode"
    monkeypatch.setattr(output.sys, "argv", ["/x/mlxnode/__main__.py"])
    assert program() == f"{sys.executable} -m mlxnode"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(capsys, shell):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert f"_MLXNODE_COMPLETE={shell}_complete" in text
    assert main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["script"] in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("mlxnode do", "doctor"),
        ("mlxnode doctor --re", "--report"),
        ("mlxnode usage --by mo", "model"),
    ],
)
def test_completion_works_in_bash(tmp_path, words, completed):
    script = tmp_path / "mlxnode"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m mlxnode "$@"\n')
    script.chmod(0o755)
    typed = words.split()
    code = (
        f'PATH="{tmp_path}:$PATH"; eval "$(mlxnode completion bash)"; '
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; "
        f"_mlxnode_completion mlxnode {typed[-1]} {typed[-2]}; echo ${{COMPREPLY[@]}}"
    )
    ended = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [completed]
