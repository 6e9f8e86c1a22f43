"""The functions that a model may call in one answer, and how it writes the calls."""

import functools
import json
from dataclasses import dataclass
from typing import Any

from mlxnode.server.notation.notation import PLAIN_CALLS, CallNotation


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function that the model may call; ``parameters`` is a JSON schema.

    ``client_name``: its name in the request, if models cannot be trusted with that name.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    is_strict: bool = False  # calls must be valid under ``parameters``
    client_name: str | None = None
    param: str  # the request parameter that holds ``parameters``, for error messages


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    """The functions that the model may call in one answer, and the notation of the calls.

    The answer ends with the call that is the last of ``max_calls``, if they are limited.
    """

    functions: list[Function]
    calls: CallNotation
    must_call: bool
    max_calls: int | None = None

    @property
    def is_parallel(self) -> bool:
        """True if one answer may have several calls."""
        return self.max_calls != 1

    @property
    def is_enforced(self) -> bool:
        """True if a grammar has to keep the calls valid."""
        return self.must_call or any(function.is_strict for function in self.functions)

    @property
    def is_plain(self) -> bool:
        """True if the messages, not the chat template, have to describe the tools."""
        return self.calls is PLAIN_CALLS

    @functools.cached_property
    def definitions(self) -> list[dict[str, Any]]:
        """The tools as in OpenAI's API, the form that chat templates take."""
        return [
            {"type": "function", "function": _definition(function)}
            for function in self.functions
        ]

    @functools.cached_property
    def lines(self) -> str:
        """The tools as JSON, one in a line."""
        return "\n".join(json.dumps(tool, ensure_ascii=False) for tool in self.definitions)


def _definition(function: Function) -> dict[str, Any]:
    fields = {
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters,
    }
    return {name: value for name, value in fields.items() if value is not None}
