"""Commands for users in the box."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from macbox.box import environment, lower_soft_limit
from macbox.facts import MACS
from support import tiny

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MACS)
def test_doctor_in_the_box_finds_nothing_to_complain_about(name, tmp_path):
    folder = tiny.make_chat_model(tmp_path / "tiny")
    config = tmp_path / "config.toml"
    config.write_text(
        '[api]\naddress = "127.0.0.1:0"\nrequire_auth = false\n'
        f'[api.models.tiny]\npath = "{folder}"\ntype = "chat"\n'
    )
    result = subprocess.run(
        [sys.executable, "-m", "mlxnode", "doctor", "--config", str(config)],
        env=environment(name),
        preexec_fn=lower_soft_limit,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "warn" not in result.stdout
    mac = MACS[name]
    for line in (
        f"system: macOS {mac.macos}",
        f"processor: {mac.chip}, arm64, {mac.memory / 1e9:.2f} GB of memory",
        "descriptors: 256 here, hard limit unlimited; a node gets 10240",
        "connections: 128 new ones may wait to be accepted",
        f"device: {mac.chip}, by Metal",
        "kernels: the Metal kernels compile and give the right results",
    ):
        assert f"  ok    {line}\n" in result.stdout


@pytest.mark.skipif(shutil.which("original-awk") is None, reason="original-awk is missing")
def test_make_help_in_the_box_lists_the_targets():
    result = subprocess.run(
        ["make", "help"],
        cwd=ROOT,
        env=environment("small"),
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.split()[0] for line in result.stdout.splitlines()}
    assert {"serve", "test", "mac-report"} <= names
