"""Scenes: what a model writes to a request, and what every wire format has to make of it.

A scene is free of any format. The tests of a format make its request, play the scene on a
worker whose model has ``tiny.TOOL_TEMPLATE`` (thoughts in ``<think>``, calls as Hermes writes
them, one byte a token), and compare what the client gets with what the scene expects.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from mlxnode.messages.data import Failed, Generate

LOOK: dict[str, Any] = {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
NOW: dict[str, Any] = {"name": "now", "parameters": {"type": "object", "properties": {}}}
Ending = Literal["stop", "length", "tool_calls", "failure"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """``text`` is what the model writes, ``step`` tokens at a time.

    It is cut after ``max_tokens`` tokens. With ``fails``, the engine fails after the text.
    ``tools`` are offered; ``choice`` is auto, required, none or a tool's name. ``thinks`` is
    what the request says about thoughts; None: nothing. What the client gets: ``reasoning``,
    ``content``, ``calls`` (name and arguments, None for arguments that were cut) and the
    ``ending``. ``stop`` is the stop string that ended the content.
    """

    name: str
    text: str
    step: int = 1000
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    choice: str = "auto"
    is_parallel: bool = True
    thinks: bool | None = None
    fails: bool = False
    reasoning: str = ""
    content: str = ""
    calls: tuple[tuple[str, dict[str, Any] | None], ...] = ()
    ending: Ending = "stop"
    stop: str | None = None

    def play(self, worker: Any) -> None:
        """Have the worker's engine answer the next request with this scene."""
        engine = worker.engine
        engine.answer, engine.step = self.text, self.step
        if not self.fails:
            return

        def fail(message: Generate) -> None:
            ids = engine.ids(self.text)
            for at in range(0, len(ids), self.step):
                engine.update(message.uid, ids[at : at + self.step])
            engine.send(Failed(message.uid, "internal", "The engine failed on this request"))

        engine.on_generate = fail


def written(name: str, **arguments: Any) -> str:
    """A call, as the model writes it."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


BERN = written("get_weather", city="Bern")
BERN_CALL = ("get_weather", {"city": "Bern"})
NOW_CALL = ("now", {})
BOTH = (LOOK, NOW)
HARD = {"city": 'St. "Gallen"\n\\ 👋🏽 é', "days": 3}

_TEXTS = {
    "a word": "Hello!",
    "one character": "a",
    "signs of several bytes": "Grüezi 👋🏽, 世界 — é!",
    "signs that JSON escapes": 'A "quote", a \\ and a \t tab\nand\r\nlines\u2028.',
    "what looks like an event": "data: [DONE]\n\nevent: error\ndata: {}\n\n: no\n",
    "markup": "# Title\n\n```python\nprint('<tool>')\n```\n<b>bold</b>",
    "white space inside": "one\n\n\n  two",
    "a long text": "All work and no play makes Jack a dull boy. " * 12,
    "a lonely marker's start": "1 < 2 and <too",
    "JSON": '{"name": "nobody", "arguments": {}}',
}
_PLAIN = [
    Scene(name=f"{name}, {step} at a time", text=text, content=text, step=step)
    for name, text in _TEXTS.items()
    for step in (1, 7, 1000)
]
_THOUGHTS = [
    Scene(
        name="a thought, then an answer",
        text="<think>Well, well.</think>Yes.",
        reasoning="Well, well.",
        content="Yes.",
    ),
    Scene(
        name="a thought by single tokens",
        text="<think>\nHm 👋🏽\n</think>\n\nYes.",
        step=1,
        reasoning="Hm 👋🏽",
        content="Yes.",
    ),
    Scene(name="only a thought", text="<think>Hm.</think>", reasoning="Hm."),
    Scene(name="an empty thought", text="<think>\n\n</think>\n\nYes.", content="Yes."),
    Scene(
        name="a thought that is cut",
        text="<think>Let me think about it for long",
        max_tokens=12,
        reasoning="Let me thin",
        ending="length",
    ),
    Scene(
        name="an answer after a thought is cut",
        text="<think>Hm.</think>Yes, of course.",
        max_tokens=8,
        reasoning="Hm.",
        content="Yes",
        ending="length",
    ),
    Scene(
        name="a thought, a call",
        text=f"<think>I look.</think>{BERN}",
        tools=BOTH,
        reasoning="I look.",
        calls=(BERN_CALL,),
        ending="tool_calls",
    ),
    Scene(
        name="a thought, a text, a call, by single tokens",
        text=f"<think>Hm.</think>I look.\n{BERN}",
        step=1,
        tools=BOTH,
        reasoning="Hm.",
        content="I look.",
        calls=(BERN_CALL,),
        ending="tool_calls",
    ),
    Scene(
        name="no thought is wanted",
        text="Yes.",
        thinks=False,
        content="Yes.",
    ),
    Scene(
        name="a thought is wanted",
        text="<think>Hm.</think>Yes.",
        thinks=True,
        reasoning="Hm.",
        content="Yes.",
    ),
]
_CALLS = [
    Scene(
        name=f"{name}, {step} at a time",
        text=text,
        step=step,
        tools=BOTH,
        content=content,
        calls=calls,
        ending="tool_calls",
    )
    for name, text, content, calls in (
        ("a call", BERN, "", (BERN_CALL,)),
        ("a call without arguments", written("now"), "", (NOW_CALL,)),
        ("a text and a call", f"I look.\n{BERN}", "I look.", (BERN_CALL,)),
        ("two calls", f"{BERN}\n{written('now')}", "", (BERN_CALL, NOW_CALL)),
        ("hard arguments", written("get_weather", **HARD), "", (("get_weather", HARD),)),
    )
    for step in (1, 5, 1000)
] + [
    Scene(
        name="three calls of one tool",
        text="\n".join(written("get_weather", city=city) for city in ("A", "B", "C")),
        tools=BOTH,
        calls=tuple(("get_weather", {"city": city}) for city in ("A", "B", "C")),
        ending="tool_calls",
    ),
    Scene(
        name="one call at most",
        text=f"{BERN}\n{written('now')}",
        tools=BOTH,
        is_parallel=False,
        calls=(BERN_CALL,),
        ending="tool_calls",
    ),
    Scene(
        name="a required call",
        text=BERN,
        tools=BOTH,
        choice="required",
        calls=(BERN_CALL,),
        ending="tool_calls",
    ),
    Scene(
        name="a required call by single tokens",
        text=BERN,
        step=1,
        tools=(LOOK,),
        choice="required",
        calls=(BERN_CALL,),
        ending="tool_calls",
    ),
    Scene(
        name="a named call",
        text=written("now"),
        step=1,
        tools=BOTH,
        choice="now",
        calls=(NOW_CALL,),
        ending="tool_calls",
    ),
    Scene(
        name="no call is allowed", text="Sunny.", tools=BOTH, choice="none", content="Sunny."
    ),
    Scene(name="tools, but no call", text="Sunny.", tools=BOTH, content="Sunny."),
    Scene(
        name="a call is cut",
        text=BERN,
        max_tokens=30,
        tools=BOTH,
        ending="length",
    ),
    Scene(
        name="a call is cut after a text",
        text=f"I look.\n{BERN}",
        step=1,
        max_tokens=40,
        tools=BOTH,
        content="I look.\n",
        ending="length",
    ),
    Scene(
        name="a second call is cut",
        text=f"{BERN}\n{written('now')}",
        max_tokens=len(BERN) + 10,
        tools=BOTH,
        calls=(BERN_CALL,),
        ending="length",
    ),
]
_ENDS = [
    Scene(
        name="a stop string",
        text="one two three",
        stops=(" three",),
        content="one two",
        stop=" three",
    ),
    Scene(
        name="the first of two stop strings, by single tokens",
        text="one two three",
        step=1,
        stops=("three", "two"),
        content="one ",
        stop="two",
    ),
    Scene(name="a stop string at once", text="END of it", stops=("END",), stop="END"),
    Scene(
        name="the start of a stop string is text at the end",
        text="one EN",
        stops=("END",),
        content="one EN",
    ),
    Scene(
        name="a stop string in a thought is none",
        text="<think>END</think>Yes.",
        stops=("END",),
        reasoning="END",
        content="Yes.",
    ),
    Scene(name="an empty answer", text=""),
    Scene(name="one token", text="Hello!", max_tokens=1, content="H", ending="length"),
    Scene(name="cut in a sign", text="a👍", max_tokens=3, content="a", ending="length"),
    Scene(name="a failure at once", text="", fails=True, ending="failure"),
    Scene(
        name="a failure in the text",
        text="All work and no play makes Jack a dull boy.",
        step=1,
        thinks=False,  # else the text could turn out to be a thought
        fails=True,
        content="All work and no play makes Jack a dull boy.",
        ending="failure",
    ),
    Scene(
        name="a failure in a thought",
        text="<think>Hm",
        step=1,
        fails=True,
        reasoning="Hm",
        ending="failure",
    ),
    Scene(
        name="a failure after a call",
        text=f"{BERN}\n",
        step=1,
        tools=BOTH,
        fails=True,
        calls=(BERN_CALL,),
        ending="failure",
    ),
]
SCENES = [*_PLAIN, *_THOUGHTS, *_CALLS, *_ENDS]
