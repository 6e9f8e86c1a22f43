"""The packages of OpenAI and Anthropic for Node, where Node and the packages can be had."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "node"


def install_packages(folder: Path) -> None:
    """Install them into ``folder``; skips where that is not possible."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"the packages need Node 20, this is {version.strip()}")
    shutil.copy(SOURCE / "package.json", folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(
            [*command, "--fetch-retries=0"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm install did not end: no registry can be reached")
    if done.returncode != 0:
        pytest.skip(f"npm install failed: {(done.stderr or done.stdout).strip()[-200:]}")
