"""A model's chat template: its features, and the text of a conversation."""

from typing import Any

from mlxnode.errors import ModelError
from mlxnode.server.deriving.derive import derive_notation
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.notation import Notation
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.prompt.abilities import PLAINEST, Abilities, complete, find_abilities
from mlxnode.server.prompt.adaptation import adapt
from mlxnode.server.prompt.borders import Border, BorderFinder
from mlxnode.server.prompt.conversation import Conversation, Message
from mlxnode.server.prompt.immutable import repair
from mlxnode.server.prompt.renderer import Renderer
from mlxnode.server.prompt.switches import Switches
from mlxnode.server.prompt.tools import PLAIN_MARKERS, in_plain_words, told
from mlxnode.server.rendering.limits import RenderLimit

_MAX_TEMPLATE = 1 << 20  # characters; those of models have up to 100,000


class ChatTemplate:
    """Renders conversations in the form that the template takes."""

    def __init__(self, wrapper: Any):
        """``wrapper``: the tokenizer as ``mlx_lm.tokenizer_utils`` loads it.

        All that is tried out with the template is tried here, not at the first request, which
        the event loop prepares.

        Raises:
            ModelError: the template is too long.
            RenderLimit: the template loops, or writes without end.
        """
        _check_size(wrapper.chat_template)
        repair(wrapper)
        self.renderer = Renderer(wrapper)
        self._border_finder = BorderFinder()
        self.notation: Notation = derive_notation(wrapper)
        # The texts of which prompts are made: the template's source, and usual markers.
        self.texts: list[str] = [self.renderer.source, *PLAIN_MARKERS, "<think>", "</think>"]
        if self.notation.thinking is not None:
            self.texts += [self.notation.thinking.start, self.notation.thinking.end]
        # What the template has to switch the reasoning with.
        self.switches = Switches(self.renderer, thinks=self.notation.thinking is not None)
        self._closing_variable = self._find_closing_variable()
        self._abilities = PLAINEST
        if wrapper.has_chat_template:
            has_calls = self.notation.calls is not None
            self._abilities = find_abilities(self.renderer, has_calls=has_calls)

    @property
    def decides_to_think(self) -> bool:
        """True if the model reasons or not as it likes: the template cannot tell it."""
        return self.notation.thinking is not None and not self.switches.is_switchable

    def expects_thoughts(self, conversation: Conversation) -> bool:
        """True if the model opens its reasoning itself, unless the prompt closes it."""
        variable = self._closing_variable
        return variable is not None and conversation.variables.get(variable) is not False

    def _find_closing_variable(self) -> str | None:
        """The variable that makes the prompt close a reasoning that it does not open."""
        thinking, variable = self.notation.thinking, self.switches.variable
        if thinking is None or variable is None:
            return None
        asked: list[Message] = [{"role": "user", "content": ""}]
        on = self.renderer.try_render(asked, variables={})
        off = self.renderer.try_render(asked, variables={variable: False})
        if on is None or off is None or thinking.start in on or thinking.end in on:
            return None
        return variable if thinking.end in off else None

    def settle(
        self,
        conversation: Conversation,
        tools: ToolUse | None,
        default_budget: int | None = None,
    ) -> Conversation:
        """``conversation`` with what its wishes about reasoning mean to this template.

        ``default_budget`` limits the reasoning if the request does not.
        """
        return self.switches.settle(
            conversation,
            is_constrained=_is_constrained(conversation, tools),
            default_budget=default_budget,
        )

    def render(
        self, conversation: Conversation, tools: ToolUse | None = None
    ) -> tuple[str, bool]:
        """The text of ``conversation``, and whether it ends within the model's reasoning.

        Raises:
            InvalidRequest: the template does not accept these messages, or is too costly.
        """
        try:
            text = self._render(conversation, tools)
        except RenderLimit as error:
            raise InvalidRequest(
                f"The model's chat template cannot render these messages: it {error}.",
                param="messages",
                code="invalid_value",
            ) from error
        thinking = self.notation.thinking
        if thinking is None:
            return text, False
        start, end = thinking.start, thinking.end
        if conversation.continues:
            last = conversation.messages[-1]["content"]
            is_reasoning = last.rfind(start) > last.rfind(end)
        else:
            is_reasoning = text.rstrip().endswith(start)
        # A constraint that applies after the reasoning needs a start of the reasoning, even
        # if the template leaves the start to the model.
        is_constrained = _is_constrained(conversation, tools)
        switches_on = self.switches.switches_on(conversation.variables)
        if is_constrained and not is_reasoning and switches_on:
            return f"{text}{start}\n", True
        return text, is_reasoning

    def borders(
        self, conversation: Conversation, tools: ToolUse | None, text: str
    ) -> list[Border]:
        """The borders of ``text``, which ``render`` has returned."""
        variables = conversation.variables

        def render(messages: list[Message]) -> str:
            return self._apply(messages, tools, variables, starts_answer=False)

        offered = None if tools is None or tools.is_plain else tools
        try:
            return self._border_finder.find(
                text,
                conversation.messages,
                render,
                variables=f"{variables}{tools and tools.lines}",
                function=offered and offered.functions[0].name,
                breakpoints=conversation.breakpoints,
            )
        except RenderLimit:  # another conversation: this one has its text
            return []

    def _render(self, conversation: Conversation, tools: ToolUse | None) -> str:
        """The text of ``conversation``; if need be, of its plainest form."""
        options: dict[str, Any] = {
            "starts_answer": conversation.starts_answer,
            "continues": conversation.continues,
        }
        messages, variables = conversation.messages, conversation.variables
        if conversation.continues and not messages[-1]["content"]:
            # There is nothing to continue: the answer begins.
            messages, options = messages[:-1], {"starts_answer": True}
        try:
            return self._apply(messages, tools, variables, **options)
        except InvalidRequest:
            try:
                return self._apply(messages, tools, variables, can=PLAINEST, **options)
            except InvalidRequest:
                pass
            raise

    def _apply(
        self,
        messages: list[Message],
        tools: ToolUse | None,
        variables: dict[str, Any],
        *,
        can: Abilities | None = None,
        **options: Any,
    ) -> str:
        """The text of ``messages``, in a form for the abilities ``can``, or the template's."""
        can = can or self._abilities
        calls = self.notation.calls
        is_plain = calls is None if tools is None else tools.is_plain
        definitions: list[dict[str, Any]] | None = None
        if is_plain:
            messages = in_plain_words(messages, tools)
        elif tools is not None and not self.notation.tells_tools:
            messages = told(messages, tools)
        elif tools is not None:
            definitions = tools.definitions
            if not can.takes_bare_tools:
                definitions = [
                    {**tool, "function": complete(tool["function"])} for tool in definitions
                ]
        adapted = adapt(messages, can, None if is_plain else calls)
        return self.renderer.render(adapted, tools=definitions, variables=variables, **options)


def _check_size(template: str | dict[str, str] | None) -> None:
    texts = template.values() if isinstance(template, dict) else [template or ""]
    if (size := sum(map(len, texts))) > _MAX_TEMPLATE:
        raise ModelError(
            f"the chat template has {size:,} characters; {_MAX_TEMPLATE:,} are possible"
        )


def _is_constrained(conversation: Conversation, tools: ToolUse | None) -> bool:
    """True if a grammar applies to the answer, or to a call that the answer has to be."""
    return conversation.constraint is not None or (tools is not None and tools.must_call)
