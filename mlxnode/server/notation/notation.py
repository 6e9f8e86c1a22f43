"""How a model family writes its answers: reasoning, content and tool calls, as literal texts.

One description serves all that is done with a notation: it is read off the chat template, a
conversation's calls are written in it, a grammar enforces it, and the output is parsed by it.
"""

import enum
from dataclasses import dataclass
from typing import Literal

Source = Literal["template", "table", "plain"]


@dataclass(frozen=True)
class Markers:
    """The texts around a section of an answer, without the white space outside them.

    The white space between a marker and the text that it surrounds belongs to neither.
    """

    start: str
    end: str


GEMMA_QUOTE = '<|"|>'  # around the strings of ``ValueStyle.GEMMA``


class Field(enum.Enum):
    """A part of a call that each call fills in."""

    NAME = enum.auto()
    ARGUMENTS = enum.auto()
    ID = enum.auto()  # any text that the model chooses for the call
    INDEX = enum.auto()  # the number of calls before this one in the answer, in digits


class ValueStyle(enum.Enum):
    """How the value of one argument is written, where each argument has markers of its own."""

    TEXT = enum.auto()  # a string as it is, any other value as JSON: the schema tells which
    JSON = enum.auto()
    PYTHON = enum.auto()  # a literal of Python
    GEMMA = enum.auto()  # <|"|>a string<|"|>, {key:value}, [value,value], numbers, true


@dataclass(frozen=True, kw_only=True)
class TaggedArguments:
    """Arguments one by one: ``before_key`` key ``before_value`` value ``after_value``.

    ``separator`` stands between two of them. ``before_other_value`` replaces ``before_value``
    for values that are no strings, where the family tells them apart (DeepSeek V3.2).
    """

    before_key: str
    before_value: str
    after_value: str
    separator: str
    style: ValueStyle
    before_other_value: str | None = None


@dataclass(frozen=True)
class CallNotation:
    """How calls are written: ``start``, calls with ``separator`` between them, ``end``.

    ``call`` is one call: literal texts and fields, with ``Field.NAME`` and
    ``Field.ARGUMENTS`` once each, in any order. ``arguments`` is None for a JSON object.
    Literals hold the family's white space. ``has_several`` is False where the family writes at
    most one call in an answer. ``is_bare`` means that no marker announces a call: an answer
    that starts as a call is one (Llama 3). ``short_ids``: the ids of calls must be nine
    letters and digits (Mistral).
    """

    call: tuple[str | Field, ...]
    start: str = ""
    separator: str = ""
    end: str = ""
    arguments: TaggedArguments | None = None
    has_several: bool = True
    is_bare: bool = False
    short_ids: bool = False


@dataclass(frozen=True)
class Notation:
    """All that is known of how a model writes.

    ``thinking`` surrounds its reasoning, ``content`` what it says where that has markers of
    its own (Command R). ``silent`` texts stand between sections and mean nothing. ``calls``
    is None if the model has no notation of its own for calls. ``is_harmony``: the model
    writes channels with headers (gpt-oss), so that ``harmony.py`` reads it. ``ends`` are
    tokens that end an answer, besides the tokenizer's own. ``source`` says where the
    description of the calls comes from, and ``reason`` why it is not the template.
    ``writes_history`` is False if the template cannot write the calls of earlier answers,
    ``tells_tools`` if it does not tell the model of the tools.
    """

    thinking: Markers | None = None
    content: Markers | None = None
    silent: tuple[str, ...] = ()
    calls: CallNotation | None = None
    is_harmony: bool = False
    ends: tuple[str, ...] = ()
    source: Source = "template"
    reason: str = ""
    writes_history: bool = True
    tells_tools: bool = True


NO_NOTATION = Notation()
# For models that have no notation of their own; a system message explains it.
PLAIN_CALLS = CallNotation(
    (
        '<tool_call>\n{"name": "',
        Field.NAME,
        '", "arguments": ',
        Field.ARGUMENTS,
        "}\n</tool_call>",
    ),
    separator="\n",
)
