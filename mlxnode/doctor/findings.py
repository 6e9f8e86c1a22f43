"""What a check finds, and what a report must not contain."""

import getpass
import re
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

# "info" is a fact that is neither good nor bad, or a check that does not apply here.
Status = Literal["ok", "warn", "fail", "info"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; ``advice`` says what to do if it is not ok."""

    name: str
    status: Status
    text: str
    advice: str = ""


class Section(msgspec.Struct, frozen=True):
    """Findings under one title, with a table (its first row is the header) or a log."""

    title: str
    findings: list[Finding] = []
    table: list[list[str]] = []
    log: str = ""


def gigabytes(size: float) -> str:
    """A size in bytes for people."""
    return f"{size / 1e9:.2f} GB"


def without_names(text: str) -> str:
    """``text`` with neither the user's name in a path nor the path of the home folder."""
    text = _replaced(text, str(Path.home()), "~")
    text = _replaced(text, str(Path(tempfile.gettempdir()).resolve()), "$TMPDIR")
    # Homes of other users, and folders that are named after this one.
    text = re.sub(r"(/(?:Users|home))/(?!Shared\b)[^/\s:'\"]+", r"\1/…", text)
    return re.sub(rf"/{re.escape(_user())}(?![\w.-])", "/…", text)


def _replaced(text: str, folder: str, short: str) -> str:
    if len(folder) < 2:
        return text
    return re.sub(rf"(?<![\w.-]){re.escape(folder)}(?![\w.-])", lambda _: short, text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process without an account
        return "nobody"
