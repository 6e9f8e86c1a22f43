"""launchctl, systemctl and their kin: scripts that record their calls and have a state."""

import json
import os
import sys
from pathlib import Path

_SCRIPT = """\
#!{python}
import json, os, sys
from pathlib import Path

folder = Path({folder!r})
name, words = Path(sys.argv[0]).name, sys.argv[1:]
with (folder / "calls").open("a") as stream:
    stream.write(json.dumps([name, *words]) + "\\n")
if (failure := folder / f"fail-{{name}}-{{words[0]}}").exists():
    code, _, text = failure.read_text().partition(" ")
    print(text, file=sys.stderr)
    sys.exit(int(code))
loaded, ends = folder / "loaded", folder / "ends"
if name == "launchctl":
    if words[0] == "print":
        if ends.exists():  # the process takes its time
            left = int(ends.read_text()) - 1
            ends.write_text(str(left))
            if left <= 0:
                ends.unlink()
                loaded.unlink()
        if not loaded.exists():
            print("Could not find service in domain for user gui", file=sys.stderr)
            sys.exit(113)
        lines = ["active count = 1", "state = running", "", "pid = 4711"]
        lines += ["last exit code = 2: No such file or directory", "state = other"]
        print(words[1], "=", "{{", *("\\n\\t" + line for line in lines), "\\n}}", sep="")
    elif words[0] == "bootstrap":
        loaded.touch()
    elif words[0] == "bootout":
        if (folder / "slow").exists():
            ends.write_text("3")
            print("Boot-out failed: 36: Operation now in progress", file=sys.stderr)
            sys.exit(36)
        loaded.unlink()
elif name == "systemctl":
    if "show" in words:
        active = "active" if loaded.exists() else "inactive"
        print(f"LoadState=loaded\\nActiveState={{active}}\\nSubState=running")
        print(f"MainPID={{4711 if loaded.exists() else 0}}\\nExecMainStatus=2")
        print("UnitFileState=enabled")
    elif "start" in words or "restart" in words:
        loaded.touch()
    elif "stop" in words or "disable" in words:
        loaded.unlink(missing_ok=True)
elif name == "loginctl":
    print("Linger=" + ("yes" if (folder / "linger").exists() else "no"))
elif name == "journalctl":
    print("a line of the log")
"""
PROGRAMS = ("launchctl", "systemctl", "loginctl", "journalctl")


class ServicePrograms:
    """The scripts in ``folder/bin``, which ``path`` puts first."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name in PROGRAMS:
            file = self.bin / name
            file.write_text(_SCRIPT.format(python=sys.executable, folder=str(folder)))
            file.chmod(0o755)

    @property
    def path(self) -> str:
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    @property
    def calls(self) -> list[list[str]]:
        """The words of each call, in order; those that only look are left out."""
        file = self._folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if call[1] not in ("print", "show-user")]

    def fail(self, name: str, word: str, code: int, text: str) -> None:
        """Let calls of ``name`` that begin with ``word`` fail."""
        (self._folder / f"fail-{name}-{word}").write_text(f"{code} {text}")

    def set(self, state: str) -> None:
        """``slow``: launchd's service takes its time to end. ``linger``: the user may stay."""
        (self._folder / state).touch()
