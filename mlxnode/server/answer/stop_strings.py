"""Stop strings: text is released as soon as it cannot be part of a stop string any more."""

from mlxnode.server.notation.overlap import overlap


class StopStrings:
    """Searches a text that arrives in parts for the first of several stop strings.

    The stop string that is complete first ends the text, so that the result does not depend
    on where the parts are cut. No character of a stop string is ever returned.
    """

    def __init__(self, stops: list[str]):
        self._stops = stops
        self._held = ""  # the suffix of the text that may be the start of a stop string
        self.matched: str | None = None  # the stop string that has ended the text

    @property
    def is_matched(self) -> bool:
        return self.matched is not None

    def feed(self, text: str) -> str:
        """Read the next part of the text; returns the text that can be shown now."""
        if not self._stops:
            return text
        if self.is_matched:
            return ""
        held = self._held + text
        starts = ((held.find(stop), stop) for stop in self._stops)
        found = [(at + len(stop), at, stop) for at, stop in starts if at >= 0]
        if found:
            _, at, self.matched = min(found)
            self._held = ""
            return held[:at]
        keep = max(overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """The text that was held back when the text ended."""
        held, self._held = self._held, ""
        return held
