"""The scripts of the set-up: what a machine lacks, and the packages of Debian."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.tools import require_program

ROOT = Path(__file__).parents[2]
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]

PYTHON_STUB = """case "$2" in
*ensurepip*) exit {ensurepip} ;;
*) echo "{machine} {is_new} {version}" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """Write the commands of a Mac that can run mlxnode, or of another; returns their folder."""

    def write(
        system="Darwin",
        processor="arm64",
        translated="0",
        macos="14.0",
        python="arm64",
        version="3.13",
        ensurepip=0,
    ) -> Path:
        is_new = tuple(map(int, version.split("."))) >= (3, 11)
        stub = PYTHON_STUB.format(
            machine=python, is_new=is_new, version=version, ensurepip=ensurepip
        )
        for name, text in {
            "uname": f"case $1 in -s) echo {system} ;; -m) echo {processor} ;; esac\n",
            "sysctl": f'[ "$*" = "-n sysctl.proc_translated" ] && echo {translated}\n',
            "sw_vers": f'[ "$*" = -productVersion ] && echo {macos}\n',
            "python": stub,
        }.items():
            file = tmp_path / name
            file.write_text(f"#!/bin/sh\n{text}")
            file.chmod(0o755)
        return tmp_path

    return write


def check(folder: Path, shell: str, python: str = "python") -> subprocess.CompletedProcess[str]:
    """Run the check with the commands of ``folder`` alone."""
    command = [shutil.which(shell), str(ROOT / ".ci/machine.sh"), python]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"processor": "x86_64"}, "has an Intel processor"),
        ({"processor": "x86_64", "translated": ""}, "has an Intel processor"),
        ({"processor": "x86_64", "translated": "1"}, "runs under Rosetta"),
        ({"macos": "13.6.9"}, "this is macOS 13.6.9"),
        ({"macos": "12"}, "this is macOS 12"),
        ({"version": "3.9"}, "python is 3.9: brew install python@3.13"),
        ({"version": "3.10"}, "python is 3.10: brew install python@3.13"),
        ({"python": "x86_64"}, "Intel one under Rosetta: brew install python@3.13"),
        ({"ensurepip": 1}, "python cannot: brew install python@3.13"),
        ({"system": "Linux", "processor": "x86_64", "version": "3.9"}, "python3-venv"),
        ({"system": "Linux", "ensurepip": 1}, "python3-venv"),
    ],
    ids=str,
)
def test_machine_that_cannot_run_it_is_told_in_one_line(machine, shell, facts, why):
    result = check(machine(**facts), shell)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("mlxnode needs ") and result.stderr.count("\n") == 1
    assert why in result.stderr


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"macos": "14.7.1"},
        {"macos": "26.1"},
        {"version": "3.11"},
        {"version": "3.14"},
        {"system": "Linux", "processor": "x86_64", "python": "x86_64"},
        {"system": "Linux", "processor": "aarch64", "python": "aarch64", "macos": "1"},
    ],
    ids=str,
)
def test_machine_that_can_run_it_is_told_nothing(machine, shell, facts):
    result = check(machine(**facts), shell)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_machine_without_python_is_told_how_to_get_it(machine, shell):
    for python in ("", "/nowhere/python3"):
        result = check(machine(), shell, python)
        assert result.returncode == 1 and result.stderr.count("\n") == 1
        assert result.stderr.endswith(": brew install python@3.13\n")


def make_serve(environment: Path, path: str) -> subprocess.CompletedProcess[str]:
    """``make serve`` for an environment that does not exist yet."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", "--no-print-directory", f"VENV={environment}", "serve"],
        cwd=ROOT,
        env=inherited | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_make_says_what_the_machine_lacks_and_makes_nothing(machine, tmp_path):
    folder = machine(macos="13.1")
    (folder / "python").rename(folder / "python3.13")
    environment = tmp_path / "environment"
    result = make_serve(environment, f"{folder}:{os.environ['PATH']}")
    assert result.returncode == 2 and result.stdout == ""
    assert "needs macOS 14 or newer" in result.stderr.splitlines()[0]
    assert not environment.exists()


def test_make_takes_no_python_that_is_too_old(tmp_path):
    """python3 of the command line tools is 3.9."""
    for name in ("python3", "python3.13"):
        (tmp_path / name).write_text("#!/bin/sh\necho noise >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    for name in ("make", "sh", "uname", "sw_vers"):
        if path := shutil.which(name):
            (tmp_path / name).symlink_to(path)
    result = make_serve(tmp_path / "environment", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("mlxnode needs Python 3.11 or newer")


# --- the packages of Debian ---------------------------------------------------------------


@pytest.fixture
def debian(tmp_path):
    """Write commands of a Debian with ``sh`` and without ruby; returns folder and log."""
    log = tmp_path / "log"
    fail = 'case " $* " in *" ${LACKS:-none} "*) exit 100 ;; esac'
    for name, text in {
        "apt-get": f'echo "apt-get $*" >>{log}; {fail}',
        "sudo": '[ "$1" = -n ] || exit 9; shift; [ "${SUDO:-0}" = 0 ] || exit 1; exec "$@"',
        "env": 'shift; exec "$@"',
        "id": "echo ${USER_ID:-0}",
        "ldconfig": 'echo "libz.so.1 (libc6,x86-64) => /lib/libz.so.1"',
        "sh": ":",
    }.items():
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    (tmp_path / "grep").symlink_to(shutil.which("grep"))
    return tmp_path, log


def install(debian, *pairs: str, **environment: str) -> tuple[str, list[str]]:
    """The output of the script, and the calls of apt-get."""
    folder, log = debian
    text = (ROOT / ".ci/packages.sh").read_text()
    isolated = text.replace("PATH=$PATH:/usr/sbin:/sbin", "PATH=$PATH")
    assert isolated != text
    script = folder / "packages.sh"
    script.write_text(isolated)
    command = [shutil.which("sh"), str(script), *pairs]
    result = subprocess.run(
        command, env={"PATH": str(folder)} | environment, capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stderr == ""
    return result.stdout, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("user", ["0", "1000"])
def test_packages_installs_what_is_missing(debian, user):
    pairs = (
        "libz.so.1=zlib1g",
        "libopenblas.so.0=libopenblas0-pthread",
        "sh=dash",
        "ruby=ruby",
    )
    output, calls = install(debian, *pairs, USER_ID=user)
    assert output == ""
    assert calls == [
        "apt-get update -qq",
        "apt-get install -y -qq libopenblas0-pthread",
        "apt-get install -y -qq ruby",
    ]


def test_packages_does_nothing_where_nothing_is_missing(debian):
    assert install(debian, "sh=dash", "libz.so.1=zlib1g") == ("", [])


@pytest.mark.parametrize(
    "environment", [{"SUDO": "1", "USER_ID": "1000"}, {"LACKS": "install"}]
)
def test_packages_without_the_right_to_install_says_so_and_goes_on(debian, environment):
    output, _ = install(debian, "ruby=ruby", "clang=clang", **environment)
    assert output.startswith("could not install ruby clang: ") and output.count("\n") == 1


def test_packages_that_one_distribution_lacks_do_not_keep_the_others_out(debian):
    output, calls = install(debian, "ruby=ruby", "clang=clang", LACKS="ruby")
    assert output.startswith("could not install ruby: ")
    assert calls[-1] == "apt-get install -y -qq clang"


def test_packages_without_apt_get_says_so_and_goes_on(debian):
    (debian[0] / "apt-get").unlink()
    output, _ = install(debian, "ruby=ruby")
    assert output.startswith("could not install ruby: ")


def test_program_that_is_missing_skips_a_test_but_fails_it_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        require_program("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        require_program("no-such-program")
