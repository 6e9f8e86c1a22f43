"""The separated output of a model, and how text is added to it."""

import json
from typing import Any, Literal

from msgspec import Struct

Section = Literal["content", "reasoning"]


class CallDelta(Struct):
    """New text of one tool call. The first delta of a call has its id and its name."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class OutputDelta(Struct):
    """New output of a model, separated. Deltas of one output can be added up."""

    content: str = ""
    reasoning: str = ""
    calls: list[CallDelta] = []

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)

    def add(self, other: "OutputDelta") -> None:
        self.content += other.content
        self.reasoning += other.reasoning
        for call in other.calls:
            self.add_call(call)

    def add_call(self, call: CallDelta) -> None:
        """Append ``call``; join it with the last delta if both are of the same call."""
        if self.calls and self.calls[-1].index == call.index:
            self.calls[-1].arguments += call.arguments
        else:
            self.calls.append(call)


class OutputWriter:
    """Collects the output. White space around a marker belongs to the marker."""

    def __init__(self, *, is_after_marker: bool, num_undecided: int):
        """``num_undecided``: the characters of content that are held, as it may be reasoning.

        More text than this is content.
        """
        self._delta = OutputDelta()
        self._has_text = {"content": False, "reasoning": False}
        self._is_after_marker = is_after_marker
        self._space: list[str] = []  # at the end of the text so far
        self._gap = ""  # what stands between this text and earlier text of its section
        self._num_undecided = num_undecided
        self._undecided: list[str] | None = [] if num_undecided else None

    @property
    def is_undecided(self) -> bool:
        return self._undecided is not None

    @property
    def has_content(self) -> bool:
        return self._has_text["content"]

    @property
    def is_at_start(self) -> bool:
        """True if nothing but white space stands before, or since a marker."""
        return self._is_after_marker or not any(self._has_text.values())

    def take(self) -> OutputDelta:
        """The output since the last call."""
        taken, self._delta = self._delta, OutputDelta()
        return taken

    def write(self, section: Section, text: str) -> None:
        visible = text.rstrip()
        if not visible:
            self._space.append(text)
            return
        before = "".join(self._space)
        self._space = [text[len(visible) :]]
        visible = before + visible
        if self._is_after_marker:
            stripped = visible.lstrip()
            own = visible[: len(visible) - len(stripped)]
            gap = max(self._gap, own, key=len) if self._has_text[section] else ""
            visible = gap + stripped
            self._is_after_marker = False
        self._has_text[section] = True
        if section == "reasoning":
            self._delta.reasoning += visible
        elif self._undecided is not None:
            self._undecided.append(visible)
            self._num_undecided -= len(visible)
            if self._num_undecided < 0:
                self.decide("content")
        else:
            self._delta.content += visible

    def skip_marker(self, gap: str = "") -> None:
        """Leave the white space around a marker out.

        ``gap`` stands between earlier and later text of a section, if the model has not
        written more white space there.
        """
        if not self._is_after_marker:
            self._gap = max("".join(self._space), gap, key=len)
        else:
            self._gap = max(self._gap, gap, key=len)
        self._space = []
        self._is_after_marker = True

    def decide(self, section: Section) -> None:
        """The text that was held belongs to ``section``."""
        held, self._undecided = self._undecided, None
        if held:
            text = "".join(held)
            self._has_text["content"] = section == "content"
            self._has_text["reasoning"] = self._has_text["reasoning"] or section == "reasoning"
            if section == "reasoning":
                self._delta.reasoning += text.lstrip()
            else:
                self._delta.content += text

    def end(self, section: Section) -> None:
        """Add the white space at the end of the text."""
        self.decide("content")
        if not self._is_after_marker:
            text = "".join(self._space)
            if section == "reasoning":
                self._delta.reasoning += text
            else:
                self._delta.content += text
        self._space = []

    def add_call(self, call: CallDelta) -> None:
        self._delta.add_call(call)


def to_json(arguments: dict[str, Any]) -> str:
    """JSON text, also of text that is not valid Unicode."""
    text = json.dumps(arguments, ensure_ascii=False)
    if text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text):
        return text
    return json.dumps(arguments)
