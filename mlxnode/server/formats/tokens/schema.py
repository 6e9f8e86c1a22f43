"""The request bodies of ``/tokenize`` and ``/detokenize``, as vLLM and llama.cpp have them."""

from typing import Any, ClassVar

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.chat.reasoning import ReasoningFields
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.fields import NonEmpty, TokenId
from mlxnode.server.formats.rules import Rule, required


class AnswerOptions(Body):
    """What the answer tells beside the ids."""

    return_token_strs: bool | None = None  # the entries of the vocabulary
    with_pieces: bool | None = None  # the text of each token


class TextBody(AnswerOptions):
    """A text: ``prompt`` is vLLM's name for it, ``content`` llama.cpp's."""

    model: NonEmpty | None = None
    prompt: str | None = None
    content: str | None = None
    add_special_tokens: bool | None = None

    rules: ClassVar[tuple[Rule, ...]] = (required("prompt", "content"),)
    spellings: ClassVar = {"add_special": "add_special_tokens"}
    neutral: ClassVar = {"parse_special": (True,)}

    @property
    def text(self) -> str:
        return self.prompt if self.prompt is not None else self.content or ""

    @property
    def adds_special(self) -> bool:
        """True if the text gets the special tokens of a prompt; vLLM's default, by its name."""
        if self.add_special_tokens is not None:
            return self.add_special_tokens
        return self.prompt is not None

    @property
    def idle(self) -> list[str]:
        return [] if self.prompt is None or self.content is None else ["content"]


class ConversationBody(AnswerOptions, ChatBody):
    """A conversation, as in ``/v1/chat/completions``.

    ``documented`` are the fields that change its prompt; the others may be sent as well.
    """

    # The template writes the special tokens.
    neutral: ClassVar = {**ChatBody.neutral, "add_special_tokens": (False,)}
    documented: ClassVar = frozenset(
        {
            *AnswerOptions.model_fields,
            *ReasoningFields.model_fields,
            *("model", "messages", "continue_final_message", "add_generation_prompt"),
            *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
            "add_special_tokens",
        }
    )


class TokensBody(Body):
    """``POST /detokenize``."""

    model: NonEmpty | None = None
    tokens: list[TokenId]


def schema_of(raw: dict[str, Any]) -> type[TextBody | ConversationBody]:
    """The schema of a body of ``/tokenize``, which is a text or a conversation."""
    return ConversationBody if "messages" in raw else TextBody
