"""What axe-core finds on the page."""

import pytest
from clients.browser.chromium import Visit
from clients.loop import NODE_MODULES

AXE = NODE_MODULES / "axe-core" / "axe.min.js"
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = "only => axe.run(document, {runOnly: only})"


def findings(visit: Visit) -> list[str]:
    """What is found on the page as it is now, in light and in dark colours."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make test-clients does it")
    page = visit.page
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    page.emulate_media(color_scheme="dark")
    # Only colours differ.
    found = page.evaluate(RUN, {"type": "rule", "values": ["color-contrast"]})["violations"]
    page.emulate_media(color_scheme="light")
    found += page.evaluate(RUN, {"type": "tag", "values": STANDARDS})["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]
