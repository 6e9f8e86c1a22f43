"""What a chat template has to switch the reasoning with, found by rendering it both ways."""

import dataclasses
import re
from typing import Any

from mlxnode.server.prompt.conversation import SYSTEM, Conversation, Message
from mlxnode.server.prompt.renderer import Renderer

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_USUAL = ("low", "medium", "high")  # a template that writes any effort is of these
_WORDS = {True: "/think", False: "/no_think"}  # in the system message (Nemotron, SmolLM3)
# Tokens of reasoning for templates that know a budget, but no effort; high is without limit.
_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 4096}
_MAX_CANDIDATES = 16  # words of a template that are tried as a variable

_ASKED: list[Message] = [{"role": "user", "content": "Qvuser"}]


class Switches:
    """The variables and words that change how much a model reasons."""

    def __init__(self, renderer: Renderer, *, thinks: bool):
        """``thinks``: the markers of the model's reasoning are known, so it can be ended."""
        self._renderer = renderer
        self.thinks = thinks
        words = sorted(w for w in renderer.words if re.search("think|reason", w))
        about = {part: [w for w in words if part in w] for part in ("effort", "budget")}
        others = [w for w in words if w not in about["effort"] and w not in about["budget"]]
        first = ["enable_thinking", "thinking"]  # the first also of templates in Python
        others = [*first, *(w for w in others if w not in first)]
        self.variable = self._differing(others, True, False)
        self.effort = self._differing(about["effort"], *EFFORTS)
        self.budget = self._differing(about["budget"], 0, 512)
        self.efforts = self._efforts()
        self.has_words = self.variable is None and self._has_words()

    @property
    def is_switchable(self) -> bool:
        """True if the template can switch the reasoning on and off."""
        return self.variable is not None or self.has_words or "none" in self.efforts

    def takes_effort(self, effort: str) -> bool:
        """True if ``effort`` changes something."""
        if self.effort is not None or self.budget is not None or self.is_switchable:
            return True
        return effort == "none" and self.thinks

    @property
    def takes_switch(self) -> bool:
        """True if the reasoning is on, or off, when a request says so."""
        return self.is_switchable or self.budget is not None or self.thinks

    @property
    def takes_budget(self) -> bool:
        return self.thinks or self.budget is not None

    def takes_variable(self, name: str, value: Any) -> bool:
        """True if the template has the variable ``name``, or another one in its place."""
        if name in self._renderer.words:
            return True
        if name in ("enable_thinking", "thinking") and isinstance(value, bool):
            return self.takes_switch
        if name == "reasoning_effort" and value in EFFORTS:
            return self.takes_effort(value)
        return name == "thinking_budget" and self.takes_budget

    def settle(
        self,
        conversation: Conversation,
        *,
        is_constrained: bool,
        default_budget: int | None = None,
    ) -> Conversation:
        """``conversation`` with what its wishes about reasoning mean to this template.

        Variables that a request sets itself stay as they are. An answer of a given form
        comes without reasoning, unless the request asks for that. ``default_budget`` is for
        requests that say nothing of a limit.
        """
        given = conversation.variables
        variables = {name: v for name, v in given.items() if self.takes_variable(name, v)}
        effort, is_on = conversation.reasoning_effort, conversation.wants_thinking
        if effort not in EFFORTS:
            effort = None
        if is_on is None and effort is not None:
            is_on = effort != "none"
        budget = conversation.thinking_budget
        messages = conversation.messages
        if effort is None and is_on is False:
            effort = "none"
        if effort is not None and self.efforts:
            variables[self.effort or ""] = self._nearest(effort)
        elif effort is not None and self.budget is not None and budget is None:
            budget = _BUDGETS.get(effort)
        if is_on is None and is_constrained and self.variable is not None:
            variables.setdefault(self.variable, False)
        elif is_on is not None and self.variable is not None:
            variables.setdefault(self.variable, is_on)
        elif is_on is not None and self.has_words:
            messages = _with_word(messages, _WORDS[is_on])
        elif is_on is False and self.thinks and not self.is_switchable:
            budget = 0
        if budget is None:
            budget = default_budget
        if budget is not None and self.budget is not None:
            variables.setdefault(self.budget, budget)
        return dataclasses.replace(
            conversation, messages=messages, variables=variables, thinking_budget=budget
        )

    def switches_on(self, variables: dict[str, Any]) -> bool:
        """True if ``variables`` ask for reasoning."""
        return self.variable is not None and variables.get(self.variable) is True

    def _nearest(self, effort: str) -> str:
        """The effort of the template that is nearest to ``effort``; "none" only for itself."""
        if effort in self.efforts:
            return effort
        known = [other for other in self.efforts if other != "none"]
        place = EFFORTS.index(effort)
        return min(known, key=lambda other: (abs(EFFORTS.index(other) - place), other))

    def _efforts(self) -> list[str]:
        """The values of the effort: those that are in the template, and the usual ones."""
        if self.effort is None:
            return []
        source = self._renderer.source
        known = [e for e in EFFORTS if e in _USUAL or f"'{e}'" in source or f'"{e}"' in source]
        return [e for e in known if self._text({self.effort: e}) is not None]

    def _differing(self, names: list[str], *values: Any) -> str | None:
        """The first variable for which some of ``values`` give different texts."""
        for name in names[:_MAX_CANDIDATES]:
            texts = {self._text({name: value}) for value in values}
            if len(texts - {None}) > 1:
                return name
        return None

    def _has_words(self) -> bool:
        texts = []
        for word in _WORDS.values():
            text = self._text({}, _with_word(_ASKED, word)) or ""
            texts.append(text.replace(_WORDS[False], "").replace(_WORDS[True], "").split())
        return texts[0] != texts[1]

    def _text(
        self, variables: dict[str, Any], messages: list[Message] | None = None
    ) -> str | None:
        return self._renderer.try_render(messages or _ASKED, variables=variables)


def _with_word(messages: list[Message], word: str) -> list[Message]:
    """``messages`` with ``word`` at the end of the system message."""
    if messages and messages[0]["role"] in SYSTEM:
        first, *rest = messages
        return [{**first, "content": f"{first['content']}\n{word}"}, *rest]
    return [{"role": "system", "content": word}, *messages]
