"""Tests see no model and no setting of whoever runs them."""

import os
import subprocess
import sys

from support.hidden_home import VARIABLES, hide_models


def test_home_of_the_tests_hides_models_and_settings_alone(tmp_path):
    home, target = tmp_path / "home", tmp_path / "target"
    hidden = (
        ".lmstudio/models/a/b/config.json",
        ".lmstudio-home-pointer",
        ".cache/huggingface/hub/models--a--b/refs/main",
        ".cache/lm-studio/models/a/b/config.json",
        ".config/mlxnode/config.toml",
    )
    seen = (".cache/mlxnode/demo", ".config/git/config", ".npmrc", "Library/x")
    for name in (*hidden, *seen):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
    hide_models(home, target)
    assert [(target / name).exists() for name in hidden] == [False] * len(hidden)
    assert [(target / name).read_text() for name in seen] == ["x"] * len(seen)


def test_home_that_cannot_be_read_is_an_empty_one(tmp_path):
    hide_models(tmp_path / "nowhere", tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_process_of_a_test_finds_nothing(tmp_path):
    assert not set(VARIABLES) & os.environ.keys()
    code = (
        "from mlxnode.models.discovery.hub_cache import hub_folder\n"
        "from mlxnode.models.discovery.lm_studio import lm_studio_folders\n"
        "from mlxnode.config.place import find_config\n"
        "print(hub_folder().exists(), lm_studio_folders(), find_config({}))"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environ,
    )
    assert found.stdout.split("\n")[0] == "False [] None"
