"""Quotes the text of a request, so that none of it becomes a control token.

A prompt is one text, in which the tokenizer finds its control tokens wherever they stand. So a
message that holds ``<|im_end|>`` could end its turn and begin another one. A sentinel, a letter
that the request does not have, is put into each such text before the template renders it. The
control tokens that are found then are the template's own; ``encoding`` drops the sentinels.
"""

import json
import re
from collections.abc import Collection
from typing import Any, NamedTuple

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.notation import Markers
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.request_text import rewrite
from mlxnode.server.prompt.weak_points import WeakPoints

# The syllables of the Yi script, and rare letters of the Chinese one: Python prints them as
# they are, and no filter of a template changes them.
SENTINELS = tuple(map(chr, [*range(0xA000, 0xA48D), *range(0x3400, 0x4DC0)]))
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


class Quoted(NamedTuple):
    """A request for the template; ``sentinel`` is None if nothing had to be quoted."""

    conversation: Conversation
    tools: ToolUse | None
    sentinel: str | None = None


class Quoter:
    """Quotes the requests to one model. Safe to call from several threads."""

    def __init__(self, tokenizer: Any, controls: Collection[str], template: str):
        """``controls``: the texts of the control tokens; ``template``: its source."""
        self._weak_points = WeakPoints(controls, template, tokenizer.normalizer)
        self._template = template

    def quote(
        self, conversation: Conversation, tools: ToolUse | None, kept: Markers | None
    ) -> Quoted:
        """The request, quoted if its text needs it.

        The ``kept`` markers mean in the contents of the assistant's messages what they mean
        in an answer: clients send answers back whole.

        Raises:
            InvalidRequest: the request has all the letters that could be the sentinel.
        """
        strings: list[str] = []

        def collected(text: str) -> str:
            strings.append(text)
            return text

        rewrite(conversation, tools, collected, kept)
        if not any(map(self._weak_points.has_any, strings)):
            return Quoted(conversation, tools)
        sentinel = self._choose(strings)

        def quoted(text: str) -> str:
            return self._weak_points.filled(text, sentinel)

        return Quoted(*rewrite(conversation, tools, quoted, kept), sentinel)

    def _choose(self, strings: list[str]) -> str:
        used = set(self._template).union(*strings)
        for text in strings:
            used.update(chr(int(code, 16)) for code in _ESCAPE.findall(text))
        free = (sentinel for sentinel in SENTINELS if sentinel not in used)
        if (sentinel := next(free, None)) is not None:
            return sentinel
        raise InvalidRequest(
            "The messages quote control tokens of the model. To tell these from its own, a "
            "letter of the Yi script is needed that the messages do not have.",
            param="messages",
            code="invalid_value",
        )


def escaped(sentinel: str) -> str:
    """The sentinel in the JSON of a template that writes ASCII only."""
    return json.dumps(sentinel)[1:-1]
