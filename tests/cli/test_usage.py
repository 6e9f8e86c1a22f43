"""``mlxnode usage``: what it prints, and what it says of wrong options."""

import contextlib
import datetime
import json
from pathlib import Path

import pytest

from mlxnode.cli import main
from mlxnode.process.usage_file import Place, Sums, add_usage, open_usage

NUMBERS = ["1", "10", "4", "3"]


def day(ago: int) -> str:
    today = datetime.datetime.now(datetime.UTC).date()  # the tests may run past midnight
    return (today - datetime.timedelta(days=ago)).isoformat()


@pytest.fixture
def config(tmp_path) -> Path:
    """A configuration whose file has usage of three days, two keys and two models."""
    file = tmp_path / "config.toml"
    file.write_text(
        '[api]\nrequire_auth = false\n[server]\nusage_file = "own folder/usage.sqlite"\n'
    )
    with contextlib.closing(open_usage(tmp_path / "own folder/usage.sqlite")) as connection:
        add_usage(
            connection,
            [
                (Place(day(ago), key, model), Sums(1, 10, 4, 3))
                for ago in (1, 20, 40)
                for key in ("alice", "bob")
                for model in ("m", "n")
            ],
        )
    return file


def run(config: Path, *options: str) -> int:
    return main(["usage", "--config", str(config), *options])


def test_usage_prints_the_last_thirty_days(config, capsys):
    assert run(config) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == [day(20), "alice", "m", *NUMBERS]
    assert lines[-1] == ["all", "8", "80", "32", "24"]
    assert len(lines) == 10


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--days", "2"], 4),
        (["--days", "41"], 12),
        (["--from", day(20)], 8),
        (["--from", day(40), "--to", day(20)], 8),
        (["--to", day(21)], 4),
        (["--key", "bob", "--days", "99"], 6),
        (["--key", "bob", "--model", "m"], 2),
        (["--by", "day"], 2),
        (["--by", "model", "key"], 4),
        (["--key", "carol"], 0),
    ],
)
def test_usage_is_selected_by_options(config, capsys, options, count):
    assert run(config, "--json", *options) == 0
    assert len(json.loads(capsys.readouterr().out)) == count


def test_usage_as_csv_has_a_header(config, capsys):
    assert run(config, "--csv", "--days", "2", "--key", "bob", "--by", "key", "model") == 0
    assert capsys.readouterr().out.splitlines() == [
        "key,model,requests,prompt_tokens,cached_tokens,completion_tokens",
        "bob,m,1,10,4,3",
        "bob,n,1,10,4,3",
    ]


def test_usage_that_is_not_there_is_told(config, capsys):
    assert run(config, "--key", "carol") == 0
    text = capsys.readouterr()
    assert text.out == ""
    folder = config.parent / "own folder"
    assert text.err == (
        f"mlxnode: no usage from {day(29)} to {day(0)} in {folder}/usage.sqlite\n"
    )


def test_usage_that_is_not_kept_or_cannot_be_read_is_an_error(config, capsys):
    (config.parent / "own folder/usage.sqlite").write_text("no database " * 100)
    assert run(config) == 1
    assert "usage.sqlite cannot be read: file is not a database" in capsys.readouterr().err
    config.write_text('[api]\nrequire_auth = false\n[server]\nusage_file = ""\n')
    assert run(config) == 1
    assert 'server.usage_file = "": no usage is kept' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--days", "0"], "expected a number from 1 to 9999, got '0'"),
        (["--days", "x"], "expected a number"),
        (["--from", "yesterday"], "expected a day, as 2026-01-31, got 'yesterday'"),
        (["--to", "0001-01-01"], "expected a day"),
        (["--days", "2", "--from", "2026-01-01"], "not allowed with"),
        (["--json", "--csv"], "not allowed with"),
        (["--by", "hour"], "'hour' is not one of 'day', 'key', 'model'"),
    ],
)
def test_usage_of_wrong_options_exits_with_2(config, capsys, options, error):
    assert run(config, *options) == 2
    assert error in capsys.readouterr().err
