"""The tools of a conversation: the syntax of the calls, and instructions for the model."""

import functools
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlxnode.server.notation.tool_syntax import PLAIN_SYNTAX, ToolSyntax
from mlxnode.server.prompt.conversation import Conversation, Function, Message

# For models whose template has no tools, and for calls that are enforced.
_INSTRUCTIONS = """\
You have these tools, each given as a JSON object in a line of its own:
<tools>
{tools}
</tools>
To call one, write a JSON object with its name and arguments between tags, like this:
<tool_call>
{{"name": "the tool's name", "arguments": {{"the argument's name": "its value"}}}}
</tool_call>
The result will then be given to you between <tool_response> and </tool_response>."""


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    """The functions that the model may call in one answer, and the syntax of the calls."""

    functions: list[Function]
    syntax: ToolSyntax
    must_call: bool
    is_enforced: bool  # a grammar has to keep the calls valid
    is_parallel: bool

    @classmethod
    def of(cls, conversation: Conversation, syntax: ToolSyntax | None) -> "ToolUse | None":
        """The tools of ``conversation``; None if it offers no function.

        ``syntax`` is the model's own. It is used unless a grammar has to enforce calls that
        are not JSON: such calls use the plain syntax.
        """
        functions = conversation.functions
        if not functions:
            return None
        must_call = conversation.must_call
        is_enforced = must_call or any(function.is_strict for function in functions)
        if syntax is None or (is_enforced and not syntax.is_json):
            syntax = PLAIN_SYNTAX
        return cls(
            functions=functions,
            syntax=syntax,
            must_call=must_call,
            is_enforced=is_enforced,
            is_parallel=conversation.is_parallel,
        )

    @property
    def is_plain(self) -> bool:
        """True if the messages, not the chat template, have to describe the tools."""
        return self.syntax is PLAIN_SYNTAX

    @functools.cached_property
    def definitions(self) -> list[dict[str, Any]]:
        """The tools as in OpenAI's API, the form that chat templates and parsers take."""
        return [
            {"type": "function", "function": _definition(function)}
            for function in self.functions
        ]

    @functools.cached_property
    def lines(self) -> str:
        """The tools as JSON, one in a line."""
        return "\n".join(map(json.dumps, self.definitions))


def _definition(function: Function) -> dict[str, Any]:
    fields = {
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters,
    }
    return {name: value for name, value in fields.items() if value is not None}


def in_plain_words(messages: Iterable[Message], tools: ToolUse | None) -> list[Message]:
    """``messages`` for a template that has no tools.

    The system message describes the tools, the assistant's messages contain the calls as
    text, and the results become a message of the user.
    """
    plain: list[Message] = []
    for is_result, group in itertools.groupby(messages, lambda m: m["role"] == "tool"):
        if is_result:
            results = [
                f"<tool_response>\n{message['content']}\n</tool_response>" for message in group
            ]
            plain.append({"role": "user", "content": "\n".join(results)})
        else:
            plain += [_with_calls_as_text(message) for message in group]
    if tools is None:
        return plain
    instructions = _INSTRUCTIONS.format(tools=tools.lines)
    if plain[0]["role"] in ("system", "developer"):
        first, *plain = plain
        content = f"{first['content']}\n\n{instructions}"
        return [{**first, "content": content}, *plain]
    return [{"role": "system", "content": instructions}, *plain]


def _with_calls_as_text(message: Message) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    lines = [message["content"]] if message["content"] else []
    lines += [
        f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
        for call in calls
    ]
    return {"role": message["role"], "content": "\n".join(lines)}
