"""The Homebrew formula, run on a stub of Homebrew's DSL (support/homebrew.rb)."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.tools import require_program

from mlxnode.config.file import load_config
from mlxnode.config.tables import ServerConfig
from mlxnode.process.ending import DRAIN_GRACE, STOP_GRACE

ROOT = Path(__file__).parents[2]
FORMULA = ROOT / "Formula" / "mlxnode.rb"
STUB = ROOT / "tests" / "support" / "homebrew.rb"
# `brew audit` wants the fields in this order.
FIELDS = "include desc homepage url sha256 license head depends_on preserve_rpath service test"


@dataclass
class Brew:
    """A Homebrew prefix for one formula."""

    ruby: str
    prefix: Path

    def run(self, action: str, formula: Path = FORMULA, folder: Path = ROOT) -> str:
        """What the stub prints; raises CalledProcessError if the formula fails."""
        command = [self.ruby, str(STUB), str(formula), action, str(self.prefix)]
        result = subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=110
        )
        return result.stdout

    def describe(self, formula: Path = FORMULA) -> dict:
        return json.loads(self.run("describe", formula))

    def install(self, folder: Path) -> list:
        """The commands of an installation from ``folder``, which need not be a checkout."""
        return json.loads(self.run("install", folder=folder))

    @property
    def keg(self) -> Path:
        return self.prefix / "Cellar" / "mlxnode" / "1.0.0"


@pytest.fixture
def brew(tmp_path) -> Brew:
    prefix = tmp_path / "homebrew"
    prefix.mkdir()
    return Brew(require_program("ruby"), prefix)


@pytest.fixture
def source(tmp_path) -> Path:
    """What the formula installs from, without the packages."""
    folder = tmp_path / "source"
    (folder / "tests" / "support").mkdir(parents=True)
    for name in ("config.toml", "tests/support/tiny.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def fields_of(description: dict) -> dict[str, list]:
    fields: dict[str, list] = {}
    for name, *arguments in description["calls"]:
        fields.setdefault(name, []).extend(arguments)
    return fields


def test_formula_has_the_fields_that_homebrew_wants(brew):
    description = brew.describe()
    fields = fields_of(description)
    order = FIELDS.split()
    names = [name for name, *_ in description["calls"]]
    assert names == sorted(names, key=order.index)
    (text,) = fields["desc"]
    assert len(text) <= 80 and text[0].isupper() and not text.endswith(".")
    assert fields["license"] == ["Apache-2.0"]
    assert fields["head"] == [f"{fields['homepage'][0]}.git", "main"]
    assert fields["depends_on"] == [{"arch": "arm64"}, {"macos": "sonoma"}, "python@3.13"]


def test_formula_keeps_the_names_of_the_libraries(brew):
    """Homebrew's longer ones do not fit into the headers of some wheels' libraries."""
    assert fields_of(brew.describe())["preserve_rpath"] == [True]


def test_formula_is_either_released_or_head_only_as_the_documents_say(brew):
    fields = fields_of(brew.describe())
    assert ("url" in fields) == ("sha256" in fields)
    if is_released := "url" in fields:
        sdist = r"/releases/download/v(\d+\.\d+\.\d+)/mlxnode-\1\.tar\.gz"
        assert re.fullmatch(re.escape(fields["homepage"][0]) + sdist, fields["url"][0])
        assert re.fullmatch(r"[0-9a-f]{64}", fields["sha256"][0])
    for name in ("README.md", "docs/install.md"):
        commands = re.findall(
            r"brew install (.*)mlxnode/mlxnode/mlxnode", (ROOT / name).read_text()
        )
        assert commands and set(commands) == {"" if is_released else "--HEAD "}, name


def test_formula_installs_into_an_environment_with_pip(brew, source):
    """The first start fetches the demo models with the environment's pip."""
    create, install = brew.install(source)
    assert create == ["virtualenv_create", str(brew.keg / "libexec"), "python3.13", False]
    python = brew.keg / "libexec" / "bin" / "python"
    assert install[:4] == ["python3.13", "-m", "pip", f"--python={python}"]
    assert install[4] == "install" and install[-2:] == ["pip", str(source)]
    assert (brew.keg / "bin" / "mlxnode").readlink() == python.with_name("mlxnode")


def test_formula_never_overwrites_the_configuration(brew, source):
    config = brew.prefix / "etc" / "mlxnode" / "config.toml"
    brew.install(source)
    assert config.read_bytes() == (ROOT / "config.toml").read_bytes()
    assert config.stat().st_mode & 0o077 == 0
    config.write_text("# mine")
    for name in ("config.toml", "tests/support/tiny.py"):  # the next version brings its own
        shutil.copy(ROOT / name, source / name)
    brew.install(source)
    assert config.read_text() == "# mine"
    assert config.with_name("config.toml.default").is_file()


def test_formula_first_configuration_is_for_this_machine_only(brew, source):
    brew.install(source)
    loaded = load_config(brew.prefix / "etc" / "mlxnode" / "config.toml", environ={})
    assert loaded.host == "127.0.0.1" and loaded.config.api.require_auth
    assert all(model.path.startswith("demo/") for model in loaded.config.api.models.values())


def test_formula_service_serves_the_configuration(brew):
    service = brew.describe()["service"]
    prefix = brew.prefix
    config = str(prefix / "etc/mlxnode/config.toml")
    # The opt path: it stays the same when the version changes.
    assert service.pop("run") == [
        f"{prefix}/opt/mlxnode/bin/mlxnode",
        "serve",
        "--config",
        config,
    ]
    log = str(prefix / "var/log/mlxnode.log")
    assert service.pop("stop_timeout") > 0
    assert service == {
        "keep_alive": True,
        "process_type": "interactive",
        "working_dir": str(prefix / "var"),
        "log_path": log,
        "error_log_path": log,
    }


def test_formula_service_has_the_time_to_drain(brew):
    """launchd kills what has not ended stop_timeout seconds after SIGTERM."""
    # Late workers are killed and reaped, then the engine has its own time, then it is killed.
    longest = ServerConfig().drain_timeout + DRAIN_GRACE + 3 * STOP_GRACE
    assert brew.describe()["service"]["stop_timeout"] > longest


def test_formula_caveats_name_the_configuration(brew):
    assert str(brew.prefix / "etc/mlxnode/config.toml") in brew.describe()["caveats"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("preserve_rpath", "preserve_rpaths"),
        ("process_type :interactive", "process_type :fast"),
        ("stop_timeout 45", 'stop_timeout "45"'),
        ("keep_alive true", "keep_alive failed: true"),
        ("pkgetc.install", "pkgetc.installs"),
        ("  def install\n", "  def install(\n"),
        ("working_dir var", "working_dir vars"),
    ],
)
def test_stub_refuses_what_homebrew_would_refuse(brew, source, tmp_path, old, new):
    text = FORMULA.read_text()
    assert old in text
    wrong = tmp_path / "mlxnode.rb"
    wrong.write_text(text.replace(old, new))
    with pytest.raises(subprocess.CalledProcessError):
        brew.run("describe", wrong)
        brew.run("install", wrong, source)


@pytest.fixture
def installed(brew) -> Brew:
    """The keg of this checkout: its commands run in the environment of the tests."""
    script = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    for name, text in {
        "libexec/bin/python": script,
        "bin/mlxnode": script.replace('" "$@', '" -m mlxnode "$@'),
    }.items():
        file = brew.keg / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(0o755)
    (brew.keg / "share" / "mlxnode").mkdir(parents=True)
    shutil.copy(ROOT / "tests/support/tiny.py", brew.keg / "share" / "mlxnode")
    return brew


@pytest.mark.slow
def test_formula_test_serves_a_tiny_model(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "test"
    folder.mkdir()
    installed.run("test", folder=folder)
    assert (folder / "tiny" / "model.safetensors").is_file()


@pytest.mark.slow
def test_formula_test_fails_where_nothing_is_served(installed, tmp_path):
    folder = tmp_path / "test"
    folder.mkdir()
    command = installed.keg / "bin" / "mlxnode"
    command.write_text("#!/bin/sh\nexit 1\n")
    formula = tmp_path / "mlxnode.rb"
    formula.write_text(FORMULA.read_text().replace("--retry 60", "--retry 1"))
    with pytest.raises(subprocess.CalledProcessError):
        installed.run("test", formula, folder)
