"""Runs a model's chat template."""

import functools
import logging
import re
from collections.abc import Sequence
from typing import Any

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.prompt.conversation import Message
from mlxnode.server.rendering.limits import RenderLimit

logger = logging.getLogger("mlxnode.server")

_MAX_DEFAULTS = 8  # variables that a template cannot do without


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
    def _defaults(self) -> dict[str, Any]:
        """What a template cannot do without: tools to iterate over, variables of its own."""
        user: list[Message] = [{"role": "user", "content": "?"}]
        for tools in (None, []):
            defaults: dict[str, Any] = {"tools": tools}
            for _ in range(_MAX_DEFAULTS):
                try:
                    self._apply(user, defaults, starts_answer=True, continues=False)
                    return defaults
                except InvalidRequest as error:
                    missing = re.search(r"'(\w+)' is undefined", error.message)
                    if missing is None or missing[1] in defaults:
                        break
                    defaults[missing[1]] = ""
        return {"tools": None}

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
            RenderLimit: the template loops, or writes without end.
        """
        given = {**self._defaults, **(variables or {})}
        if tools:
            given["tools"] = tools
        return self._apply(messages, given, starts_answer=starts_answer, continues=continues)

    def try_render(self, messages: Sequence[Message], **options: Any) -> str | None:
        """As ``render``, but None if the template does not accept the messages."""
        try:
            return self.render(messages, **options)
        except InvalidRequest:
            return None

    def _apply(
        self,
        messages: Sequence[Message],
        variables: dict[str, Any],
        *,
        starts_answer: bool,
        continues: bool,
    ) -> str:
        try:
            return self._wrapper.apply_chat_template(
                messages,
                tokenize=False,
                continue_final_message=continues,
                add_generation_prompt=starts_answer,
                **variables,
            )
        except (OSError, MemoryError, RenderLimit):
            raise  # the template reads no file of its own: this machine lacks something
        # A template is a program: it can raise any other error for unexpected messages.
        except Exception as error:
            logger.debug("chat template: %s", error, exc_info=True)
            raise InvalidRequest(
                f"The model's chat template does not accept these messages: {error}",
                param="messages",
                code="invalid_value",
            ) from error
