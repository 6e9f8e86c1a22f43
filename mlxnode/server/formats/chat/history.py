"""From the messages of a chat request to the form that chat templates take."""

from mlxnode.server.formats.chat import messages as wire
from mlxnode.server.prompt.conversation import CalledFunction, Message, ToolCall
from mlxnode.server.prompt.history import arguments_of, link_results


def to_messages(messages: list[wire.Message]) -> list[Message]:
    """The conversation in the form that chat templates take.

    Contents are one string. Arguments of calls are objects: templates are written for
    transformers, not for OpenAI's JSON in a string. What older clients and other servers
    write in a way of their own is there by its usual name.
    """
    return link_results([_to_message(message) for message in messages])


def _to_message(message: wire.Message) -> Message:
    converted: Message = {
        "role": "tool" if message.role == "function" else message.role,
        "content": _content_of(message),
    }
    if message.name is not None:
        converted["name"] = message.name
    if reasoning := _reasoning_of(message):
        converted["reasoning_content"] = reasoning
    if calls := _calls_of(message):
        converted["tool_calls"] = calls
    if message.tool_call_id is not None:
        converted["tool_call_id"] = message.tool_call_id
    return converted


def _content_of(message: wire.Message) -> str:
    content = message.content
    if isinstance(content, list):
        shown = (part for part in content if part.is_text)
        content = "".join(part.text or part.content or part.refusal or "" for part in shown)
    return content or message.refusal or ""


def _reasoning_of(message: wire.Message) -> str:
    """The reasoning of an earlier answer: one of its many places, as they repeat it."""
    parts = message.content if isinstance(message.content, list) else []
    places = (
        message.reasoning_content,
        message.reasoning,
        message.thinking,
        "".join(
            detail.text or detail.summary or "" for detail in message.reasoning_details or ()
        ),
        "".join(part.reasoning_text for part in parts),
    )
    return next((place for place in places if place), "")


def _calls_of(message: wire.Message) -> list[ToolCall]:
    calls = [_to_call(call) for call in message.tool_calls or ()]
    if message.function_call is not None:  # of the time before tools
        calls.append(_call("", message.function_call.name, message.function_call.arguments))
    return calls


def _to_call(call: wire.ToolCall) -> ToolCall:
    if call.function is not None:
        return _call(call.id, call.function.name, call.function.arguments)
    assert call.custom is not None  # by the rules of the schema
    return _call(call.id, call.custom.name, {"input": call.custom.input or ""})


def _call(id: str | None, name: str, arguments: object) -> ToolCall:
    function: CalledFunction = {"name": name, "arguments": arguments_of(arguments)}
    return {"id": id or "", "type": "function", "function": function}
