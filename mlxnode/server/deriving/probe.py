"""Renders conversations whose texts are known, to see what a chat template puts around them."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from mlxnode.server.rendering.limits import RenderLimit

Call = tuple[str, dict[str, Any], str]  # name, arguments, id
Message = dict[str, Any]

# No template has these words of its own.
USER = "qzquestion"
CONTENT = "qzcontent"
REASONING = "qzreasoning"
RESULT = "qzresult"
NAMES = ("qzfirst", "qzsecond")
IDS = ("qzid00000", "qzid00001")  # nine letters and digits: some templates want that
KEYS = ("qzkeya", "qzkeyb", "qzkeyc", "qzkeyd")
_PARAMETERS = {
    "type": "object",
    "properties": {key: {"type": "string", "description": "A text."} for key in KEYS},
    "required": [KEYS[0]],
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": "A test.", "parameters": _PARAMETERS},
    }
    for name in NAMES
]
# Templates differ in the field that they read, and some read parts of the content.
THOUGHTS: tuple[Message, ...] = (
    {
        "content": CONTENT,
        "reasoning_content": REASONING,
        "reasoning": REASONING,
        "thinking": REASONING,
    },
    {
        "content": [
            {"type": "thinking", "thinking": REASONING},
            {"type": "text", "text": CONTENT},
        ]
    },
    {
        "content": {
            "blocks": [
                {"type": "thoughts", "text": REASONING},
                {"type": "response", "text": CONTENT},
            ]
        }
    },
)


class Form(NamedTuple):
    """How an answer with calls is given to a template: they differ in what they take.

    ``is_text``: the arguments are JSON in a string.
    """

    content: str | None
    is_text: bool


FORMS = tuple(
    Form(content, is_text) for content in ("", None, CONTENT) for is_text in (False, True)
)


class Probe:
    """Renders with the chat template of ``wrapper``, a tokenizer of mlx-lm."""

    def __init__(self, wrapper: Any):
        self._wrapper = wrapper
        # A program that stands in for a template takes no other variable.
        is_program = not wrapper.chat_template
        self._switches = ("enable_thinking",) if is_program else ("enable_thinking", "thinking")
        self.tells_tools = self._tells_tools()

    def after_question(
        self, *answer: Message, starts_answer: bool = False, thinks: bool = True
    ) -> str | None:
        """What is rendered after a question; None if the template refuses the messages."""
        messages = [{"role": "user", "content": USER}, *answer]
        for tools in (TOOLS,) if self.tells_tools else (None, []):
            text = self._render(messages, tools, starts_answer, thinks)
            if text is not None and USER in text:
                return text.rpartition(USER)[2]
        return None

    def answer(self, **fields: Any) -> str | None:
        """What is rendered for an answer of ``fields``."""
        return self.after_question({"role": "assistant", **fields})

    def calls(self, calls: Sequence[Call], form: Form, **fields: Any) -> str | None:
        """What is rendered for an answer of ``calls``; None if something of them is missing."""
        messages = [
            {
                "id": id,
                "type": "function",
                "function": {
                    "name": name,
                    "arguments": json.dumps(arguments) if form.is_text else arguments,
                },
            }
            for name, arguments, id in calls
        ]
        answer = {
            "role": "assistant",
            "content": form.content,
            "tool_calls": messages,
            **fields,
        }
        text = self.after_question(answer)
        if text is None:  # some want the results
            results = [
                {"role": "tool", "tool_call_id": id, "name": name, "content": RESULT}
                for name, _, id in calls
            ]
            text = (self.after_question(answer, *results) or "").partition(RESULT)[0]
        words = [word for name, arguments, _ in calls for word in (name, *arguments)]
        return text if all(word in text for word in words) else None

    def _tells_tools(self) -> bool:
        text = self._render([{"role": "user", "content": USER}], TOOLS, True, True)
        return text is not None and all(name in text for name in NAMES)

    def _render(
        self, messages: list[Message], tools: Any, starts_answer: bool, thinks: bool
    ) -> str | None:
        try:
            return self._wrapper.apply_chat_template(
                messages,
                tools=tools,
                tokenize=False,
                add_generation_prompt=starts_answer,
                **dict.fromkeys(self._switches, thinks),
            )
        except (OSError, MemoryError, RenderLimit):
            raise  # this machine lacks something, or the template is too costly to try it again
        except Exception:  # a template is a program: it can raise any error
            return None
