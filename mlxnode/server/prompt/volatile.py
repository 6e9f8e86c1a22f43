"""What a client changes in each request at the head of its system message."""

import dataclasses
import re
from collections.abc import Sequence

from mlxnode.server.prompt.conversation import SYSTEM, Conversation, Message

_MAX_HEAD = 1000  # characters, so that a pattern takes no long time on any text


class VolatileHeads:
    """Removes texts that would make each prompt a new one from its first tokens on."""

    def __init__(self, patterns: Sequence[str] = ()):
        """``patterns``: regular expressions of the texts, as ``[server]`` has them."""
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def without(self, conversation: Conversation) -> Conversation:
        """``conversation`` without these texts.

        Only the head of a system or developer message is changed: a message of a user can
        quote such a text.
        """
        messages = [self._clean(message) for message in conversation.messages]
        breakpoints = tuple(
            place._replace(head=self.without_head(place.head, messages[place.message]["role"]))
            for place in conversation.breakpoints
        )
        return dataclasses.replace(conversation, messages=messages, breakpoints=breakpoints)

    def without_head(self, content: str, role: str) -> str:
        """``content``, of a message of ``role``, without these texts."""
        if role not in SYSTEM:
            return content
        for pattern in self._patterns:
            if found := pattern.match(content, 0, _MAX_HEAD):
                content = content[found.end() :]
        return content

    def _clean(self, message: Message) -> Message:
        return {**message, "content": self.without_head(message["content"], message["role"])}
