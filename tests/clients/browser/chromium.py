"""Headless Chromium of the system, driven by Playwright, which brings no browser of its own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
ROOM_DESKTOP = {"width": 1100, "height": 800}
ROOM_PHONE = {"width": 320, "height": 640}
WAIT = 15_000  # milliseconds, for whatever the page is to show
expect.set_options(timeout=WAIT)
# Violations of the policy, as the page itself notes them.
_WATCH = """
window.policyViolations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.policyViolations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def chromium_path() -> str | None:
    """The browser to use, or None; the environment's ``CHROMIUM`` names another one."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    found = (shutil.which(name) for name in NAMES)
    apps = (app for app in MAC_APPS if Path(app).exists())
    return next((path for path in [*found, *apps] if path), None)


@contextmanager
def started_chromium() -> Iterator[Browser]:
    """The browser, without a window. It ends with the block."""
    path = chromium_path()
    assert path, "no Chromium: install Debian's package chromium, or name one as CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            chromium_sandbox=os.geteuid() != 0,  # Chromium has none for root
            args=["--force-color-profile=srgb", "--hide-scrollbars"],
        )
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A fresh profile that looks at one node: its page, its requests, and what went wrong."""

    def __init__(self, browser: Browser, url: str, **options: Any):
        """``options`` are those of Playwright's ``new_context``."""
        self.url = url
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.provoked: list[str] = []  # parts of problems that the test itself brings about
        options = {"viewport": ROOM_DESKTOP, "reduced_motion": "reduce"} | options
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(WAIT)
        self.context.add_init_script(_WATCH)
        self.context.on("request", lambda request: self.requests.append(request))
        self.context.on("console", self._on_console)
        self.context.on("weberror", lambda error: self.problems.append(f"throws {error.error}"))
        self.context.on("dialog", lambda dialog: self._on_dialog(dialog))
        self.page: Page = self.context.new_page()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            at = message.location.get("url", "")
            self.problems.append(f"console {message.type}: {message.text} ({at})")

    def _on_dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def unexpected(self) -> list[str]:
        """The problems that the test has not provoked."""
        return [one for one in self.problems if not any(part in one for part in self.provoked)]

    def violations(self) -> list[str]:
        """What the Content-Security-Policy had to refuse."""
        return self.page.evaluate("window.policyViolations")

    def foreign_requests(self) -> list[str]:
        """Requests that went to anything but the node."""
        own = urlsplit(self.url).netloc
        return [
            one.url
            for one in self.requests
            if urlsplit(one.url).netloc != own and not one.url.startswith("blob:" + self.url)
        ]

    def close(self) -> None:
        self.context.close()
