from pathlib import Path

from mlxnode.service.homebrew import homebrew_prefix, homebrew_service


def test_homebrew_prefix_is_found_from_the_environment_of_the_formula(tmp_path):
    prefix = tmp_path / "homebrew"
    (prefix / "Cellar").mkdir(parents=True)
    assert homebrew_prefix(prefix / "Cellar/mlxnode/1.0.0/libexec") == prefix
    assert homebrew_prefix(prefix / "opt/mlxnode/libexec") == prefix
    assert homebrew_prefix(Path("/opt/mlxnode/venv")) is None
    assert homebrew_prefix(tmp_path / "my/.venv") is None


def test_homebrew_service_is_the_one_that_brew_services_has_started(tmp_path):
    assert homebrew_service(tmp_path) is None
    file = tmp_path / "Library/LaunchAgents/homebrew.mxcl.mlxnode.plist"
    file.parent.mkdir(parents=True)
    file.touch()
    assert homebrew_service(tmp_path) == file
