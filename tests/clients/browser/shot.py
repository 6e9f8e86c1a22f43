"""Write a picture of the page: ``python -m clients.browser.shot URL FILE.png`` in ``tests``.

The node runs already. Options: --api KEY, --admin KEY, --tab NAME, --ask TEXT, --dark, --phone,
--whole (the whole length of the page), --width PIXELS.
"""

import argparse

from clients.browser.actions import chat, enter_keys, open_tab
from clients.browser.chromium import ROOM_DESKTOP, ROOM_PHONE, Visit, started_chromium


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("file")
    parser.add_argument("--api", default="")
    parser.add_argument("--admin", default="")
    parser.add_argument("--tab")
    parser.add_argument("--ask")
    parser.add_argument("--width", type=int)
    for name in ("dark", "phone", "whole"):
        parser.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    room = dict(ROOM_PHONE if asked.phone else ROOM_DESKTOP)
    room["width"] = asked.width or room["width"]
    with started_chromium() as browser:
        scheme = "dark" if asked.dark else "light"
        visit = Visit(browser, asked.url, viewport=room, color_scheme=scheme)
        if asked.api or asked.admin:
            enter_keys(visit, asked.api, asked.admin)
        else:
            visit.page.goto(asked.url)
        if asked.ask:
            chat(visit, asked.ask)
        if asked.tab:
            open_tab(visit, asked.tab)
            visit.page.wait_for_timeout(2500)  # two seconds of figures
        visit.page.screenshot(path=asked.file, full_page=asked.whole)
        print("\n".join(visit.problems + visit.violations() + visit.foreign_requests()))


if __name__ == "__main__":
    main()
