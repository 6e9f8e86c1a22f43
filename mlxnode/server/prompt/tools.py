"""The tools of a chat request: which may be called, and how the model is told of them."""

import functools
import itertools
import json
from dataclasses import dataclass
from typing import Any

from mlxnode.server.formats.chat.schema import ChatBody, Function
from mlxnode.server.notation.tool_syntax import PLAIN_SYNTAX, ToolSyntax
from mlxnode.server.prompt.templates import ChatTemplate

# For models whose template says nothing of tools, and where calls are enforced.
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


@dataclass(frozen=True)
class ToolUse:
    """The tools that the model may call in one answer."""

    functions: dict[int, Function]  # by their place in the request
    syntax: ToolSyntax
    must_call: bool
    is_enforced: bool  # a grammar has to see to it that calls are as they should be
    is_parallel: bool

    @classmethod
    def of(cls, body: ChatBody, template: ChatTemplate) -> "ToolUse | None":
        """What ``body`` offers, None when nothing may be called.

        The model's own syntax is used where it has one, except that what a grammar has to
        enforce is asked for in JSON.
        """
        if not body.tools or body.tool_choice == "none":
            return None
        functions = {i: tool.function for i, tool in enumerate(body.tools)}
        choice = body.tool_choice or "auto"
        if not isinstance(choice, str):
            name = choice.function.name
            functions = {i: f for i, f in functions.items() if f.name == name}
        must_call = choice != "auto"
        is_enforced = must_call or any(function.strict for function in functions.values())
        syntax = template.tool_syntax
        if syntax is None or (is_enforced and not syntax.is_json):
            syntax = PLAIN_SYNTAX
        # To name a function asks for one call of it.
        is_parallel = body.parallel_tool_calls is not False and isinstance(choice, str)
        return cls(functions, syntax, must_call, is_enforced, is_parallel)

    @property
    def is_plain(self) -> bool:
        """Whether the model has to be told of the tools in words."""
        return self.syntax is PLAIN_SYNTAX

    @functools.cached_property
    def definitions(self) -> list[dict[str, Any]]:
        """The tools as in OpenAI's API, which is how templates and parsers take them."""
        return [
            {
                "type": "function",
                "function": function.model_dump(exclude_none=True, exclude={"strict"}),
            }
            for function in self.functions.values()
        ]


def in_plain_words(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """``messages`` for a template that knows nothing of tools.

    The tools are described in the system message, calls are written into the assistant's
    messages, and results become a message of the user.
    """
    plain: list[dict[str, Any]] = []
    for is_result, group in itertools.groupby(messages, lambda m: m["role"] == "tool"):
        if is_result:
            results = [
                f"<tool_response>\n{message['content']}\n</tool_response>" for message in group
            ]
            plain.append({"role": "user", "content": "\n".join(results)})
        else:
            plain += [_with_calls_written(message) for message in group]
    if not tools:
        return plain
    told = _INSTRUCTIONS.format(tools="\n".join(map(json.dumps, tools)))
    if plain[0]["role"] in ("system", "developer"):
        first, *plain = plain
        return [first | {"content": f"{first['content']}\n\n{told}"}, *plain]
    return [{"role": "system", "content": told}, *plain]


def _with_calls_written(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    lines = [message["content"]] if message["content"] else []
    lines += [
        f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
        for call in calls
    ]
    return {"role": message["role"], "content": "\n".join(lines)}
