"""The syntax in which a model family writes its tool calls."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ToolSyntax:
    """The markers around a tool call, and a parser for the text between them.

    ``end`` is "" if a call lasts until the end of the text. ``parse`` takes the text and the
    tools of the request. It returns one call or a list of calls, each with ``name`` and
    ``arguments``, and raises any exception if the text is not a call. ``is_json`` means that
    a call is a JSON object with these two members.
    """

    start: str
    end: str
    parse: Callable[[str, list[dict[str, Any]]], Any]
    is_json: bool = False
    has_short_ids: bool = False  # nine characters: Mistral's templates refuse longer ids


PLAIN_SYNTAX = ToolSyntax(
    "<tool_call>", "</tool_call>", lambda text, _: json.loads(text), is_json=True
)
