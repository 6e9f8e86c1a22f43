"""What the model of a family is made to write, and the requests that it writes it for."""

import json
from typing import Any

from support.notation_pieces import NOW, ROME, TOOLS, Call, Family, Sample
from support.scripted import ScriptedModel

from mlxnode.server.notation.notation import Field, Notation
from mlxnode.server.notation.write import write_calls

Body = dict[str, Any]

QUESTION = {"role": "user", "content": "Weather in Rome?"}
RESULT = "Sunny, and as warm as one can wish. " * 10  # longer than any thought that is dropped
DONE = "It is sunny."
THOUGHT = "Hm."
# Each value is one of a few, so that a model that wants to say something else comes to an end.
CHOICES = {
    "type": "function",
    "function": {
        "name": "set_mode",
        "description": "Sets the mode.",
        "parameters": {
            "type": "object",
            "properties": {
                "mode": {"type": "string", "enum": ["on", "off"]},
                "is_loud": {"type": "boolean"},
                "level": {"type": "integer", "enum": [1, 2, 3]},
            },
            "required": ["mode", "is_loud", "level"],
            "additionalProperties": False,
        },
    },
}
OFFERED = {"messages": [QUESTION], "tools": TOOLS}
FORCED = {
    "messages": [QUESTION],
    "tools": [CHOICES],
    "tool_choice": "required",
    "parallel_tool_calls": False,
}


class FamilyScripts:
    """The requests of one family, each with an answer that its model will write."""

    def __init__(self, family: Family, model: ScriptedModel):
        self._model = model
        self.notation: Notation = model.notation
        self.samples: list[tuple[Sample, Body]] = [
            (sample, model.script(OFFERED, sample.output)) for sample in family.samples
        ]
        call = self._written([ROME], OFFERED)
        required = {**OFFERED, "tool_choice": "required"}
        self.required = model.script(required, self._written([ROME], required))
        self.forced = model.script(FORCED, self._beginning())
        self.cut = model.script(OFFERED, call) | {
            "max_tokens": model.num_tokens(call) - model.num_tokens(self._end()) - 4
        }
        self.turns = self._agent_loop()
        self.thought = model.script({"messages": [QUESTION]}, self._thought())
        self.folder = model.save()

    def prompt(self, body: Body) -> str:
        """The text of the prompt of ``body``."""
        return self._model.decode(self._model.prompt_ids(body))

    def _agent_loop(self) -> list[Body]:
        """Three turns: two calls, each with its result, and an answer."""
        messages: list[Body] = [QUESTION]
        bodies, texts = [], []
        for call in (ROME, NOW):
            bodies.append({"messages": list(messages), "tools": TOOLS})
            texts.append(self._written([call], bodies[-1]))
            messages += turn(call, self._placeholder(len(bodies)), self._reasoning(bodies[-1]))
        bodies.append({"messages": list(messages), "tools": TOOLS})
        return self._model.script_turns(
            bodies, [*texts, self._opening(bodies[-1]) + self._said()]
        )

    def _written(self, calls: list[Call], body: Body) -> str:
        return self._opening(body) + write_calls(self._model.calls, calls)

    def _beginning(self) -> str:
        """The beginning of a call, up to the name, and then no call at all."""
        text = write_calls(self._model.calls, [("set_mode", {})])
        return self._opening(FORCED) + text[: text.index("set_mode")] + "Hello!"

    def _end(self) -> str:
        text = write_calls(self._model.calls, [NOW])
        return text[text.index("now") + len("now") :]

    def _opening(self, body: Body) -> str:
        """What ends the thought that the prompt of ``body`` has opened."""
        thinking = self.notation.thinking
        if thinking is None or not self._model.is_reasoning(body):
            return ""
        return f"{THOUGHT}{thinking.end}"

    def _reasoning(self, body: Body) -> str:
        return THOUGHT if self._opening(body) else ""

    def _thought(self) -> str:
        """A thought and an answer to the user."""
        thinking, body = self.notation.thinking, {"messages": [QUESTION]}
        if thinking is None:
            return self._said()
        start = "" if self._model.is_reasoning(body) else thinking.start
        header = "<|start|>assistant" if self.notation.is_harmony else ""
        return f"{start}{THOUGHT}{thinking.end}{header}{self._said()}"

    def _said(self) -> str:
        """An answer to the user, as the family writes it."""
        if self.notation.is_harmony:
            return f"<|channel|>final<|message|>{DONE}"
        markers = self.notation.content
        return DONE if markers is None else f"{markers.start}{DONE}{markers.end}"

    def _placeholder(self, number: int) -> str:
        """An id as long as the server's, or the model's where it writes one."""
        calls = self._model.calls
        digits = 9 if calls.short_ids or Field.ID in calls.call else 24
        return ("" if digits == 9 else "call_") + f"{number:0{digits}}"


def turn(call: Call, id: str, reasoning: str) -> list[Body]:
    """An answer that is ``call``, as a client keeps it, and the result of the call."""
    name, arguments = call
    function = {"name": name, "arguments": compact(arguments)}
    answer: Body = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id, "type": "function", "function": function}],
    }
    if reasoning:
        answer["reasoning_content"] = reasoning
    return [answer, {"role": "tool", "tool_call_id": id, "content": RESULT}]


def compact(arguments: dict[str, Any]) -> str:
    """Arguments as the server writes them."""
    return json.dumps(arguments, ensure_ascii=False)
