"""The tools of a conversation, and instructions for models whose template has none."""

import itertools
import json
from collections.abc import Iterable

from mlxnode.server.notation.notation import PLAIN_CALLS, Notation
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.notation.write import write_calls
from mlxnode.server.prompt.conversation import SYSTEM, Conversation, Message

# What stands around calls and results in plain words.
PLAIN_MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
# For models whose template does not tell the tools.
_INSTRUCTIONS = """\
You have these tools, each given as a JSON object in a line of its own:
<tools>
{tools}
</tools>
To call one, write its name and its arguments like this:
{example}"""
_RESULTS = "The result will then be given to you between <tool_response> and </tool_response>."
_EXAMPLE = ("the tool's name", {"the argument's name": "its value"})


def tool_use(conversation: Conversation, notation: Notation) -> ToolUse | None:
    """The tools of ``conversation``; None if it offers no function.

    A model without calls of its own in ``notation`` writes them in the plain notation.
    """
    if not conversation.functions:
        return None
    return ToolUse(
        functions=conversation.functions,
        calls=notation.calls or PLAIN_CALLS,
        must_call=conversation.must_call,
        max_calls=conversation.max_calls,
    )


def in_plain_words(messages: Iterable[Message], tools: ToolUse | None) -> list[Message]:
    """``messages`` for a template that has no tools.

    The system message describes the tools, the assistant's messages contain the calls as
    text, and the results become a message of the user.
    """
    plain: list[Message] = []
    for is_result, group in itertools.groupby(messages, lambda m: m["role"] == "tool"):
        if is_result:
            plain.append(results_as_text(group))
        else:
            plain += [_with_calls_as_text(message) for message in group]
    return plain if tools is None else told(plain, tools)


def told(messages: list[Message], tools: ToolUse) -> list[Message]:
    """``messages`` with a system message that describes ``tools`` and how to call them."""
    example = write_calls(tools.calls, [_EXAMPLE])
    instructions = _INSTRUCTIONS.format(tools=tools.lines, example=example)
    if tools.is_plain:
        instructions = f"{instructions}\n{_RESULTS}"
    roles = [message["role"] for message in messages]
    num_heads = next((i for i, role in enumerate(roles) if role not in SYSTEM), len(roles))
    if num_heads == 0:
        return [{"role": "system", "content": instructions}, *messages]
    *before, last = messages[:num_heads]
    content = f"{last['content']}\n\n{instructions}" if last["content"] else instructions
    return [*before, {**last, "content": content}, *messages[num_heads:]]


def results_as_text(results: Iterable[Message]) -> Message:
    """A message of the user that holds the results of calls."""
    texts = [f"<tool_response>\n{result['content']}\n</tool_response>" for result in results]
    return {"role": "user", "content": "\n".join(texts)}


def _with_calls_as_text(message: Message) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    lines = [message["content"]] if message["content"] else []
    lines += [
        f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
        for call in calls
    ]
    plain: Message = {"role": message["role"], "content": "\n".join(lines)}
    if "reasoning_content" in message:
        plain["reasoning_content"] = message["reasoning_content"]
    return plain
