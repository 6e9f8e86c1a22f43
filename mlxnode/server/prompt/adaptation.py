"""Conversations in the form that a chat template takes, with nothing lost.

Each step depends on the messages before it, and on what the template can say: two
conversations with the same beginning have it in common afterwards, too.
"""

from collections.abc import Iterator

from mlxnode.server.notation.notation import CallNotation
from mlxnode.server.prompt.abilities import Abilities, Beside
from mlxnode.server.prompt.calls import with_calls
from mlxnode.server.prompt.contents import in_parts, paragraphs, with_thoughts
from mlxnode.server.prompt.conversation import SYSTEM, Message


def adapt(
    messages: list[Message], can: Abilities, notation: CallNotation | None
) -> list[Message]:
    """``messages`` for a template that has the abilities ``can``.

    Calls are written in ``notation`` where the template has no place for them; None: there
    are no calls, as plain words have taken their place.
    """
    if notation is not None:
        messages = list(with_calls(messages, can, notation))
    messages = list(_with_systems(messages, can))
    messages = list(_alternating(_with_a_question(messages, can), can))
    if can.filler:
        messages = [_filled(message, can.filler) for message in messages]
    messages = [with_thoughts(message, can.thoughts) for message in messages]
    return [in_parts(message) for message in messages] if can.wants_parts else messages


# --- system and developer messages ------------------------------------------------------


def _with_systems(messages: list[Message], can: Abilities) -> Iterator[Message]:
    """``messages`` with texts of the system where the template has a place for them.

    The first ones become one message. Where a template has none, and later in the
    conversation, the text becomes one of the user.
    """
    leading = 0
    while leading < len(messages) and messages[leading]["role"] in SYSTEM:
        leading += 1
    head, rest = messages[:leading], messages[leading:]
    if not can.has_system:
        head = [_as(message, "user") for message in _joined(head)]
        first = head[0]["content"] if head else ""
        if first and rest and rest[0]["role"] == "user":
            rest = [_join({**rest[0], "content": first}, rest[0]), *rest[1:]]
            head = []
    elif not can.has_systems_anywhere:
        head = _joined(head)
    is_kept = can.has_system and can.has_systems_anywhere
    for index, message in enumerate([*head, *rest]):
        if message["role"] not in SYSTEM:
            yield message
        elif index >= len(head) and not is_kept:
            yield _as(message, "user")
        else:
            yield message if can.has_developer else _as(message, "system")


def _joined(messages: list[Message]) -> list[Message]:
    """The neighbours ``messages`` as one; none if there are none."""
    if len(messages) < 2:
        return messages
    content = "\n\n".join(message["content"] for message in messages if message["content"])
    return [{**messages[0], "content": content}]


def _as(message: Message, role: str) -> Message:
    return {**message, "role": role}


# --- turns --------------------------------------------------------------------------------


def _with_a_question(messages: list[Message], can: Abilities) -> list[Message]:
    """``messages`` with an empty question before the first answer, or at the end of none."""
    roles = [message["role"] for message in messages]
    first = next((i for i, role in enumerate(roles) if role not in SYSTEM), len(roles))
    is_alone = first == len(roles)
    is_taken = can.takes_system_alone if is_alone else can.takes_answer_first
    if is_taken or (not is_alone and roles[first] == "user"):
        return messages
    return [*messages[:first], {"role": "user", "content": ""}, *messages[first:]]


def _filled(message: Message, filler: str) -> Message:
    """``message`` with a content, if it is an answer that says nothing."""
    if message["role"] != "assistant" or message["content"] or "tool_calls" in message:
        return message
    return {**message, "content": filler}


def _alternating(messages: list[Message], can: Abilities) -> Iterator[Message]:
    """``messages`` with neighbours of one role joined, for templates that want turns."""
    last: Message | None = None
    is_open = False  # the last question has no answer yet, only calls
    for message in messages:
        role = message["role"]
        if last is not None and role == last["role"] and _joins(message, can):
            last = _join(last, message)
            continue
        if last is not None:
            yield last
            is_cut = is_open and role == "user" and last["role"] != "user"
            if is_cut and not can.takes_user_after_result:
                yield {"role": "assistant", "content": can.filler}
        if role == "user":
            is_open = True
        elif role == "assistant" and "tool_calls" not in message:
            is_open = False
        last = message
    if last is not None:
        yield last


def _joins(message: Message, can: Abilities) -> bool:
    """True if the template wants ``message`` joined with one of the same role before it."""
    if message["role"] == "user":
        return not can.takes_users_in_a_row
    is_apart = can.calls is not None and can.calls.remarks is Beside.APART
    is_call = "tool_calls" in message and is_apart
    return message["role"] == "assistant" and not can.takes_answers_in_a_row and not is_call


def _join(first: Message, second: Message) -> Message:
    """Two messages of one role as one."""
    joined: Message = {**first, **second}
    joined["content"] = paragraphs(first["content"] or "", second["content"] or "")
    if "reasoning_content" in first and "reasoning_content" in second:
        joined["reasoning_content"] = paragraphs(
            first["reasoning_content"], second["reasoning_content"]
        )
    if "tool_calls" in first and "tool_calls" in second:
        joined["tool_calls"] = [*first["tool_calls"], *second["tool_calls"]]
    return joined
