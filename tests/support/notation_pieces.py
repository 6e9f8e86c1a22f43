"""Pieces of chat templates: turns, lists of calls, arguments in the notations of families.

A piece is Jinja source. In it, ``m`` is a message of the assistant, ``f`` the function of a
call, ``a`` its arguments, ``c.id`` its id.
"""

from dataclasses import dataclass
from typing import Any, Literal

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city."},
                    "days": {"type": "integer", "description": "How many days."},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]
Call = tuple[str, dict[str, Any]]
ROME: Call = ("get_weather", {"city": "Rome", "days": 2})
NOW: Call = ("now", {})


@dataclass(frozen=True)
class Sample:
    """An output of a model that was offered ``TOOLS``, and what must come of it.

    ``is_thinking``: the prompt has opened the reasoning.
    """

    output: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    is_thinking: bool = False


@dataclass(frozen=True)
class Family:
    """A template, the added tokens of its vocabulary, and outputs of its model.

    ``source`` says where the notation of its calls comes from.
    """

    template: str
    tokens: tuple[str, ...]
    samples: tuple[Sample, ...]
    source: Literal["template", "table", "plain"] = "template"


def text(value: str) -> str:
    """``value`` as it is: Jinja drops line ends after its blocks."""
    return f"{{{{ {value!r} }}}}"


def around(piece: str, pattern: str) -> str:
    """``piece`` in place of the ``%s`` of ``pattern``, which is text."""
    before, after = pattern.split("%s")
    return text(before) + piece + text(after)


TELL = "{% for tool in tools or [] %}{{ tool | tojson }}{{ '\n' }}{% endfor %}"
CONTENT = "{{ m.content or '' }}"
THOUGHT = (
    "{% if m.reasoning_content %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}"
    "{% endif %}"
)
OPEN = (
    "{{ '<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking "
    "else '<think>\n' }}"
)
JSON = "{{ '{\"name\": \"' + f.name + '\", \"arguments\": ' + (a | tojson) + '}' }}"
NEW_LINE = "{{ '\n' if m.content }}"
NINE = (
    "{% if (c.id or '') | length != 9 %}{{ raise_exception('ids have 9 letters') }}{% endif %}"
)
_SYSTEM = "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"


def chat(
    answer: str,
    *,
    system: str = "<|im_start|>system\n%s<|im_end|>\n",
    user: str = "<|im_start|>user\n%s<|im_end|>\n",
    tool: str = "<|im_start|>tool\n%s<|im_end|>\n",
    prompt: str = "<|im_start|>assistant\n",
    tail: str = "",
    tell: str = TELL,
) -> str:
    """A template whose ``answer`` renders ``m``; the others are texts around a content.

    ``prompt`` begins an answer, with the piece ``tail`` after it; ``tell`` tells the tools.
    """
    return (
        f"{around(_SYSTEM + tell, system)}{{% for m in messages %}}{{% if m.role == 'user' %}}"
        f"{around('{{ m.content }}', user)}{{% elif m.role == 'tool' %}}"
        f"{around('{{ m.content }}', tool)}{{% elif m.role == 'assistant' %}}{answer}"
        "{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{text(prompt)}{tail}{{% endif %}}"
    )


def chatml(calls: str, *, thought: str = "", tail: str = "") -> str:
    answer = text("<|im_start|>assistant\n") + thought + CONTENT + calls + text("<|im_end|>\n")
    return chat(answer, tail=tail)


def calls(
    call: str, *, start: str = "", before: str = "", separator: str = "", end: str = ""
) -> str:
    """The calls of ``m`` and the texts around them; ``call`` and ``before`` are pieces."""
    return (
        f"{{% if m.tool_calls %}}{before}{text(start)}{{% for c in m.tool_calls %}}"
        "{% set f = c.function %}{% set a = f.arguments %}"
        f"{call}{{% if not loop.last %}}{text(separator)}{{% endif %}}{{% endfor %}}"
        f"{text(end)}{{% endif %}}"
    )


def each(item: str) -> str:
    """``item`` for each argument: its name is ``k``, its value is ``v``."""
    return f"{{% for k, v in a.items() %}}{item}{{% endfor %}}"


def xml(before: str, after: str) -> str:
    """``<function=NAME>`` with parameters; ``before`` and ``after`` surround a value."""
    item = (
        "{{ '<parameter=' + k + '>' }}"
        + around("{{ v if v is string or v is number else v | tojson }}", f"{before}%s{after}")
        + text("</parameter>\n")
    )
    return "{{ '<function=' + f.name + '>\n' }}" + each(item) + text("</function>")
