"""The tools of a conversation, and instructions for models whose template has none."""

import itertools
import json
from collections.abc import Iterable

from mlxnode.server.notation.notation import PLAIN_CALLS, Notation
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.prompt.conversation import Conversation, Message

# What stands around calls and results in plain words.
PLAIN_MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
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
        is_parallel=conversation.is_parallel,
    )


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
