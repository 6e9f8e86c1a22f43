"""Chat templates that change lists, which the sandbox that runs them does not allow."""

import re
from typing import Any

# {% set _ = queue.ids.append(id) %} and {% set id = queue.ids.pop(0) %}: of a namespace, whose
# fields can be set instead.
_OPEN, _CLOSE = r"\{%(-?)\s*", r"\s*(-?)%\}"
_APPEND = re.compile(
    _OPEN + r"(?:set\s+\w+\s*=|do)\s*(\w+\.\w+)\.append\((.{1,1000}?)\)" + _CLOSE
)
_POP = re.compile(_OPEN + r"set\s+(\w+)\s*=\s*(\w+\.\w+)\.pop\(0\)" + _CLOSE)


def repair(wrapper: Any) -> None:
    """Let the template of ``wrapper``, a tokenizer of mlx-lm, set lists, not change them.

    A list that grows so is as long as the conversation's calls.
    """
    template = wrapper.chat_template
    if isinstance(template, str) and (fixed := without_changes(template)) != template:
        wrapper.chat_template = fixed
    elif isinstance(template, dict):
        wrapper.chat_template = {name: without_changes(text) for name, text in template.items()}


def without_changes(template: str) -> str:
    """``template`` with fields of namespaces set where it appends to their lists."""
    template = _APPEND.sub(r"{%\1 set \2 = \2 + [\3] \4%}", template)
    return _POP.sub(r"{%\1 set \2 = \3[0] -%}{%- set \3 = \3[1:] \4%}", template)
