"""A model's chat template: its features, and the text of a conversation."""

import logging
import re
from typing import Any

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.derive import derive_notation
from mlxnode.server.notation.notation import Notation
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.prompt.borders import Border, BorderFinder
from mlxnode.server.prompt.conversation import Conversation, Message
from mlxnode.server.prompt.tools import PLAIN_MARKERS, in_plain_words

logger = logging.getLogger("mlxnode.server")


class ChatTemplate:
    """Renders conversations. A template comes from the model's files, never from a request."""

    def __init__(self, wrapper: Any):
        """``wrapper``: the tokenizer as ``mlx_lm.tokenizer_utils`` loads it."""
        self._wrapper = wrapper
        template = wrapper.chat_template or ""
        sources = [template] if isinstance(template, str) else template.values()
        # The texts of which prompts are made: the template's sources, the markers.
        self.texts: list[str] = [*sources, *PLAIN_MARKERS]
        self._words = frozenset(re.findall(r"\w+", "\n".join(sources)))
        self._border_finder = BorderFinder()
        self.notation: Notation = derive_notation(wrapper)
        if self.notation.thinking is not None:
            self.texts += [self.notation.thinking.start, self.notation.thinking.end]
        self.think_end_ids: list[int] = list(wrapper.think_end_tokens or ())
        # The variable that switches the reasoning on and off.
        switches = ("enable_thinking", "thinking")
        self.thinking_switch = next((name for name in switches if self.knows(name)), None)

    @property
    def knows_effort(self) -> bool:
        """True if a request can set the reasoning effort, or switch the reasoning off."""
        return self.knows("reasoning_effort") or self.thinking_switch is not None

    def knows(self, word: str) -> bool:
        """True if ``word``, the name of a variable or of a role, is in the template."""
        return word in self._words

    def render(
        self, conversation: Conversation, tools: ToolUse | None = None
    ) -> tuple[str, bool]:
        """The text of ``conversation``, and whether it ends within the model's reasoning.

        Raises:
            InvalidRequest: the template does not accept these messages.
        """
        variables = self._variables(conversation, tools)
        messages = self._messages(conversation, tools)
        text = self._apply(
            messages,
            tools,
            variables,
            starts_answer=conversation.starts_answer,
            continues=conversation.continues,
        )
        thinking = self.notation.thinking
        if thinking is None:
            return text, False
        start, end = thinking.start, thinking.end
        if conversation.continues:
            last = messages[-1]["content"]
            is_reasoning = last.rfind(start) > last.rfind(end)
        else:
            is_reasoning = text.rstrip().endswith(start)
        # A constraint that applies after the reasoning needs a start of the reasoning, even
        # if the template leaves the start to the model.
        is_constrained = _is_constrained(conversation, tools)
        if is_constrained and not is_reasoning and self._switches_on(variables):
            return f"{text}{start}\n", True
        return text, is_reasoning

    def borders(
        self, conversation: Conversation, tools: ToolUse | None, text: str
    ) -> list[Border]:
        """The borders of ``text``, which ``render`` has returned."""
        variables = self._variables(conversation, tools)

        def render(messages: list[Message]) -> str:
            return self._apply(messages, tools, variables, starts_answer=False)

        offered = None if tools is None or tools.is_plain else tools
        return self._border_finder.find(
            text,
            self._messages(conversation, tools),
            render,
            variables=f"{variables}{offered and offered.lines}",
            function=offered and offered.functions[0].name,
        )

    def _switches_on(self, variables: dict[str, Any]) -> bool:
        return self.thinking_switch is not None and variables.get(self.thinking_switch) is True

    def _variables(self, conversation: Conversation, tools: ToolUse | None) -> dict[str, Any]:
        """The variables of the request, completed by its effort and its constraint."""
        variables = dict(conversation.variables)
        effort, switch = conversation.reasoning_effort, self.thinking_switch
        if effort is not None and self.knows("reasoning_effort"):
            variables.setdefault("reasoning_effort", effort)
        if switch is not None:
            if effort is not None:
                variables.setdefault(switch, effort != "none")
            if _is_constrained(conversation, tools):
                # The first token is constrained, unless the request asks for reasoning.
                variables.setdefault(switch, False)
        return variables

    def _messages(self, conversation: Conversation, tools: ToolUse | None) -> list[Message]:
        """The messages, without the roles and the tools that the template does not have."""
        messages = conversation.messages
        if self.notation.calls is None if tools is None else tools.is_plain:
            messages = in_plain_words(messages, tools)
        if not self.knows("developer"):
            messages = [_as_system(message) for message in messages]
        return messages

    def _apply(
        self,
        messages: list[Message],
        tools: ToolUse | None,
        variables: dict[str, Any],
        *,
        starts_answer: bool,
        continues: bool = False,
    ) -> str:
        definitions = [] if tools is None or tools.is_plain else tools.definitions
        try:
            return self._wrapper.apply_chat_template(
                messages,
                tools=definitions or None,
                tokenize=False,
                continue_final_message=continues,
                add_generation_prompt=starts_answer,
                **variables,
            )
        except (OSError, MemoryError):
            raise  # the template reads no file of its own: this machine lacks something
        # A template is a program: it can raise any other error for unexpected messages.
        except Exception as error:
            logger.debug("chat template: %s", error, exc_info=True)
            raise InvalidRequest(
                f"The model's chat template does not accept these messages: {error}",
                param="messages",
                code="invalid_value",
            ) from error


def _is_constrained(conversation: Conversation, tools: ToolUse | None) -> bool:
    """True if a grammar applies to the answer, or to a call that the answer has to be."""
    return conversation.constraint is not None or (tools is not None and tools.must_call)


def _as_system(message: Message) -> Message:
    return {**message, "role": "system"} if message["role"] == "developer" else message
