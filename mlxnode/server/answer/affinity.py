"""The affinity of a conversation: what a balancer hashes to find its node again.

Several nodes behind a balancer have a prefix cache each. The value is the same in all turns
of a conversation: a client that sends it back reaches the node that has the prefix. It is
computed from the request as it came, before the prompt is rendered or encoded.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from pydantic import BaseModel

from mlxnode.server.prompt.conversation import SYSTEM, Conversation, Message
from mlxnode.server.prompt.volatile import VolatileHeads
from mlxnode.server.registry.opened import TextModel

HEADER = "x-mlxnode-affinity"
_SIZE = 12  # bytes: no two conversations of a node have the same value by chance
# Of a prompt without turns. A prompt that grows beyond it keeps its value; a shorter one is
# computed again in no time.
_TEXT_START = 512  # characters
_IDS_START = 128  # tokens


def of_conversation(
    key_id: str,
    model: TextModel,
    conversation: Conversation,
    tools: Iterable[BaseModel] | None,
) -> str:
    """The affinity of ``conversation``: its key, its model, its tools and its first part.

    The first part is all until the end of the first message of a user, without the texts that
    clients change in each request. ``tools`` are all that the client offers, whatever it lets
    the model choose in this turn.
    """
    volatile = model.tokenizer.volatile
    messages = [list(_told(message, volatile)) for message in _first_part(conversation)]
    offered = [
        tool.model_dump(mode="json", exclude={"cache_control"}, exclude_none=True)
        for tool in tools or ()
    ]
    return _hash(key_id, model.served.id, offered, messages)


def of_prompt(key_id: str, model: TextModel, prompt: str | Sequence[int]) -> str:
    """The affinity of ``prompt``, a text or token ids without turns: its start."""
    start = prompt[: _TEXT_START if isinstance(prompt, str) else _IDS_START]
    return _hash(key_id, model.served.id, start)


def _first_part(conversation: Conversation) -> Iterator[Message]:
    messages = conversation.messages
    users = (index for index, message in enumerate(messages) if message["role"] == "user")
    return islice(messages, next(users, len(messages)) + 1)


def _told(message: Message, volatile: VolatileHeads) -> Iterator[object]:
    """What the prompt has of ``message``; ids of calls, say, are new in each turn."""
    role, content = message["role"], message["content"]
    yield "system" if role in SYSTEM else role
    yield volatile.without_head(content, role)
    yield [call["function"]["name"] for call in message.get("tool_calls", ())]


def _hash(*parts: object) -> str:
    data = json.dumps(parts, separators=(",", ":")).encode()
    return hashlib.blake2b(data, digest_size=_SIZE).hexdigest()
