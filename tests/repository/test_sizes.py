"""The size check of ``make lint``."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "sizes.py"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout with one short file and no entries."""
    for folder in (".ci", "mlxnode/engine", "kernels"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / "mlxnode/short.py", 350)
    (tmp_path / ".ci/large-files.toml").touch()
    return tmp_path


def write(file: Path, lines: int) -> None:
    file.write_text("x = 1\n" * lines)


def check(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(checkout)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_sizes_prints_lines_by_folder(checkout):
    write(checkout / "mlxnode/engine/a.py", 3)
    write(checkout / "mlxnode/engine/b.py", 4)
    result = check(checkout)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert result.returncode == 0 and result.stderr == ""
    assert ["mlxnode", "1", "350", "short.py", "350"] in rows
    assert ["mlxnode/engine", "2", "7", "b.py", "4"] in rows
    assert ["mlxnode,", "all", "3", "357"] in rows


@pytest.mark.parametrize("suffix", ["py", "metal", "h", "cpp", "mjs"])
def test_sizes_refuses_a_long_source_file(checkout, suffix):
    write(checkout / f"kernels/long.{suffix}", 351)
    result = check(checkout)
    assert result.returncode == 1
    assert f"kernels/long.{suffix} has 351 lines" in result.stderr


def test_sizes_takes_data_for_no_source(checkout):
    write(checkout / "kernels/table.json", 1000)
    assert check(checkout).returncode == 0


def test_sizes_accepts_a_reason(checkout):
    write(checkout / "kernels/long.metal", 351)
    (checkout / ".ci/large-files.toml").write_text('"kernels/long.metal" = "one kernel"')
    assert check(checkout).returncode == 0


def test_sizes_refuses_an_empty_reason(checkout):
    write(checkout / "kernels/long.metal", 351)
    (checkout / ".ci/large-files.toml").write_text('"kernels/long.metal" = " "')
    assert "kernels/long.metal has no reason" in check(checkout).stderr


@pytest.mark.parametrize("name", ["mlxnode/short.py", "mlxnode/gone.py"])
def test_sizes_refuses_an_entry_that_is_not_needed(checkout, name):
    (checkout / ".ci/large-files.toml").write_text(f'"{name}" = "once long"')
    result = check(checkout)
    assert result.returncode == 1 and f"{name} needs no entry" in result.stderr


def test_sizes_does_not_follow_links(checkout):
    write(checkout / "kernels/short.py", 300)
    (checkout / "mlxnode/kernels").symlink_to("../kernels")
    assert "mlxnode/kernels" not in check(checkout).stdout
