"""A conversation without its oldest turns, where all of it is too long for the model."""

from dataclasses import replace

from mlxnode.server.answer.conversation import ask
from mlxnode.server.prompt.context_length import TooLong
from mlxnode.server.prompt.conversation import SYSTEM, Conversation
from mlxnode.server.registry.opened import TextModel

_ROOM = 4  # at most this part of the context is kept free for the answer


async def without_oldest_turns(
    conversation: Conversation, model: TextModel, max_tokens: int | None, *, size: int
) -> Conversation:
    """``conversation`` without as many of its oldest turns as it takes to fit, if that helps.

    A turn is a message of the user and all that follows until the next one. The messages of
    the system and the last turn stay. ``size``: as ``ask`` has it.
    """
    context_length = model.served.context_length
    room = max(context_length // _ROOM, 1)
    limit = context_length - min(max_tokens or room, room)
    starts = [i for i, message in enumerate(conversation.messages) if message["role"] == "user"]
    few, many = 0, max(len(starts) - 1, 0)  # turns to leave out: too few, and perhaps enough
    while many - few > 1:
        middle = (few + many) // 2
        try:
            await ask(_without(conversation, starts[middle]), model, size=size, limit=limit)
            many = middle
        except TooLong:
            few = middle
    return _without(conversation, starts[many]) if many else conversation


def _without(conversation: Conversation, start: int) -> Conversation:
    """``conversation`` without what was said before the message ``start``."""
    messages = [
        message
        for index, message in enumerate(conversation.messages)
        if index >= start or message["role"] in SYSTEM
    ]
    return replace(conversation, messages=messages)
