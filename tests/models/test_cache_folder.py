import multiprocessing
from pathlib import Path

import pytest

from mlxnode.errors import ConfigError
from mlxnode.models.cache_folder import build_once, cache_folder


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MLXNODE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mlxnode"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path("~/Library/Caches/mlxnode").expanduser()


def test_cache_folder_of_a_user_without_a_home_is_an_error_that_says_what_to_do(monkeypatch):
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.delenv("MLXNODE_CACHE", raising=False)
    with pytest.raises(ConfigError, match=r"set \$MLXNODE_CACHE"):
        cache_folder()


def test_build_once_leaves_nothing_behind_when_building_fails(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        build_once(tmp_path / "models" / "m", fail)
    assert [file.name for file in (tmp_path / "models").iterdir()] == [".m.lock"]
    built = build_once(tmp_path / "models" / "m", lambda folder: (folder / "whole").touch())
    assert [file.name for file in built.iterdir()] == ["whole"]


def _build(folder: Path, barrier) -> None:
    def build(scratch: Path) -> None:
        with (folder / "builds").open("a") as log:
            log.write("built\n")

    barrier.wait(30)
    build_once(folder / "m", build)


@pytest.mark.slow
def test_build_once_builds_once_for_several_processes(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_build, args=(tmp_path, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "builds").read_text() == "built\n"
