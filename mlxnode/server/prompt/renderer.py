"""Runs a model's chat template."""

import contextlib
import functools
import logging
import re
from collections.abc import Sequence
from typing import Any

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.prompt.conversation import Message

logger = logging.getLogger("mlxnode.server")


class Renderer:
    """Runs the template, which comes from the model's files, never from a request."""

    def __init__(self, wrapper: Any):
        """``wrapper``: the tokenizer as ``mlx_lm.tokenizer_utils`` loads it."""
        self._wrapper = wrapper
        template = wrapper.chat_template or ""
        sources = [template] if isinstance(template, str) else template.values()
        self.source = "\n".join(sources)
        self.words = frozenset(re.findall(r"\w+", self.source))

    @functools.cached_property
    def _no_tools(self) -> list[Any] | None:
        """What a template gets where there are no tools: some iterate over them in any case."""
        user: list[Message] = [{"role": "user", "content": "?"}]
        for none in (None, []):
            with contextlib.suppress(InvalidRequest):
                self._apply(user, none, {}, starts_answer=True, continues=False)
                return none
        return None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: list[dict[str, Any]] | None = None,
        variables: dict[str, Any] | None = None,
        starts_answer: bool = True,
        continues: bool = False,
    ) -> str:
        """The text of ``messages``, which have the form that the template takes.

        Raises:
            InvalidRequest: the template does not accept them.
        """
        tools = tools or self._no_tools
        return self._apply(
            messages, tools, variables or {}, starts_answer=starts_answer, continues=continues
        )

    def try_render(self, messages: Sequence[Message], **options: Any) -> str | None:
        """As ``render``, but None if the template does not accept the messages."""
        try:
            return self.render(messages, **options)
        except InvalidRequest:
            return None

    def _apply(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        variables: dict[str, Any],
        *,
        starts_answer: bool,
        continues: bool,
    ) -> str:
        try:
            return self._wrapper.apply_chat_template(
                messages,
                tools=tools,
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
