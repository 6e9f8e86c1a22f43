"""A model's chat template: what it can express, and conversations written with it."""

import logging
import re
from dataclasses import dataclass, field
from typing import Any

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.tool_syntax import ToolSyntax

logger = logging.getLogger("mlxnode.server")


@dataclass(frozen=True)
class Conversation:
    """What a template is to write: the messages, and what goes with them.

    ``continues`` leaves the last message open, ``begins_answer`` opens one of the assistant.
    ``reasons``: the answer begins with reasoning, whether the template says so or not.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)  # as in OpenAI's API
    continues: bool = False
    begins_answer: bool = True
    reasons: bool = False
    variables: dict[str, Any] = field(default_factory=dict)


class ChatTemplate:
    """Renders conversations. Templates come from the model's files, never from a request."""

    def __init__(self, wrapper: Any):
        """``wrapper`` is the tokenizer as ``mlx_lm.tokenizer_utils`` loads it."""
        self._wrapper = wrapper
        template = wrapper.chat_template or ""
        sources = [template] if isinstance(template, str) else template.values()
        self._words = frozenset(re.findall(r"\w+", "\n".join(sources)))
        # What surrounds the model's reasoning, if it was trained to reason.
        self.thinking: tuple[str, str] | None = (
            (wrapper.think_start, wrapper.think_end) if wrapper.has_thinking else None
        )
        self.think_end_ids: list[int] = list(wrapper.think_end_tokens or ())
        # Which variable switches that on and off.
        switches = ("enable_thinking", "thinking")
        self.thinking_switch = next((name for name in switches if self.knows(name)), None)
        # How its tool calls look, if the template tells the model of tools at all.
        self.tool_syntax: ToolSyntax | None = None
        if wrapper.has_tool_calling and self.knows("tools"):
            parser = wrapper.tool_parser.__module__.rpartition(".")[2]
            self.tool_syntax = ToolSyntax(
                wrapper.tool_call_start,
                wrapper.tool_call_end,
                wrapper.tool_parser,
                is_json=parser == "json_tools",
                has_short_ids=parser == "mistral",
            )

    @property
    def knows_effort(self) -> bool:
        """Whether a request can set how much the model reasons, or whether it does."""
        return self.knows("reasoning_effort") or self.thinking_switch is not None

    def knows(self, word: str) -> bool:
        """Whether the template's source has this name of a variable, or a role."""
        return word in self._words

    def render(self, conversation: Conversation) -> str:
        """The text of a conversation, as the model's template writes it.

        Raises:
            InvalidRequest: the template does not accept these messages.
        """
        messages = conversation.messages
        if not self.knows("developer"):
            messages = [
                message | {"role": "system"} if message["role"] == "developer" else message
                for message in messages
            ]
        try:
            return self._wrapper.apply_chat_template(
                messages,
                tools=conversation.tools or None,
                tokenize=False,
                continue_final_message=conversation.continues,
                add_generation_prompt=conversation.begins_answer,
                **conversation.variables,
            )
        # A template is a program: messages it was not written for may make it raise anything.
        except Exception as error:
            logger.debug("chat template: %s", error, exc_info=True)
            raise InvalidRequest(
                f"The model's chat template does not accept these messages: {error}",
                param="messages",
                code="invalid_value",
            ) from error
