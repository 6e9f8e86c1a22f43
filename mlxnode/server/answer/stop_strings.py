"""Stop strings: text is let through as soon as it can no longer be part of one."""


class StopStrings:
    """Watches a text that arrives in pieces for the first of several stop strings.

    The stop string that is complete first ends the text, so that the result does not
    depend on where the pieces were cut. Nothing of it is ever returned.
    """

    def __init__(self, stops: list[str]):
        self._stops = stops
        self._held = ""  # the end of the text, which may be the beginning of a stop string
        self.is_matched = False

    def feed(self, text: str) -> str:
        """Take a piece, return what can be shown now."""
        if not self._stops:
            return text
        if self.is_matched:
            return ""
        held = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self.is_matched = True
            self._held = ""
            return held[: min(found)[1]]
        keep = max(overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back when the text ended."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` that begins ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
