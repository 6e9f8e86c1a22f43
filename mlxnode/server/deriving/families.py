"""What a chat template cannot tell, by what is in the template or in the vocabulary.

Each notation is that of a family whose templates do not write calls of the history (or, as
gpt-oss, write them unlike its models do). Sources: the model cards of these families.
"""

from mlxnode.server.notation.notation import (
    CallNotation,
    Field,
    Markers,
    Notation,
    TaggedArguments,
    ValueStyle,
)

_NAME, _ARGUMENTS = Field.NAME, Field.ARGUMENTS
# Harmony: messages with a header each, by roles and channels.
HARMONY = Notation(
    thinking=Markers("<|channel|>analysis<|message|>", "<|end|>"),
    content=Markers("<|channel|>final<|message|>", "<|end|>"),
    silent=("<|start|>assistant",),
    calls=CallNotation(
        (
            "<|channel|>commentary to=functions.",
            _NAME,
            " <|constrain|>json<|message|>",
            _ARGUMENTS,
        ),
        has_several=False,
    ),
    is_harmony=True,
    ends=("<|call|>", "<|return|>"),
    source="table",
    reason="the template writes the history unlike the model writes its answers",
)
_HARMONY_WORDS = ("<|channel|>", "<|message|>", "commentary")


def _json(*, start: str = "", end: str = "", separator: str = ", ") -> CallNotation:
    call = ('{"name": "', _NAME, '", "arguments": ', _ARGUMENTS, "}")
    return CallNotation(call, start=start, separator=separator, end=end)


_PYTHON = TaggedArguments(
    before_key="", before_value="=", after_value="", separator=", ", style=ValueStyle.PYTHON
)
# The marker that a template or a vocabulary of the family names, and its calls.
_CALLS: tuple[tuple[str, CallNotation], ...] = (
    (
        "<|tool_calls_section_begin|>",  # Kimi K2
        CallNotation(
            (
                "<|tool_call_begin|>functions.",
                _NAME,
                ":",
                Field.INDEX,
                "<|tool_call_argument_begin|>",
                _ARGUMENTS,
                "<|tool_call_end|>",
            ),
            start="<|tool_calls_section_begin|>",
            end="<|tool_calls_section_end|>",
        ),
    ),
    (
        "<|tool_call_start|>",  # LFM2
        CallNotation(
            (_NAME, "(", _ARGUMENTS, ")"),
            start="<|tool_call_start|>[",
            separator=", ",
            end="]<|tool_call_end|>",
            arguments=_PYTHON,
        ),
    ),
    ("<|tool_call|>", _json(start="<|tool_call|>[", end="]")),  # Granite 3
    (
        "<｜tool▁calls▁begin｜>",  # DeepSeek R1 and V3
        CallNotation(
            (
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                _NAME,
                "\n```json\n",
                _ARGUMENTS,
                "\n```<｜tool▁call▁end｜>",
            ),
            start="<｜tool▁calls▁begin｜>",
            separator="\n",
            end="<｜tool▁calls▁end｜>",
        ),
    ),
    ("[ARGS]", CallNotation(("[TOOL_CALLS]", _NAME, "[ARGS]", _ARGUMENTS))),  # Mistral
    ("[TOOL_CALLS]", _json(start="[TOOL_CALLS][", end="]")),
    (
        "<tool_call>",  # Hermes, Qwen, SmolLM3
        CallNotation(
            (
                '<tool_call>\n{"name": "',
                _NAME,
                '", "arguments": ',
                _ARGUMENTS,
                "}\n</tool_call>",
            ),
            separator="\n",
        ),
    ),
)
_THINKING = (
    Markers("<think>", "</think>"),
    Markers("[THINK]", "[/THINK]"),
    Markers("<|channel>thought", "<channel|>"),
)
# Llama 3 may write this token before a call.
PYTHON_TAG = "<|python_tag|>"
# Granite 3.3 is told to write its answer so.
_RESPONSE = Markers("<response>", "</response>")


def is_harmony(template: str) -> bool:
    return all(word in template for word in _HARMONY_WORDS)


def calls_named_in(words: str) -> CallNotation | None:
    """The calls of the family whose marker is in ``words``."""
    return next((calls for marker, calls in _CALLS if marker in words), None)


def thinking_named_in(words: str) -> Markers | None:
    """The reasoning of the family whose end marker is in ``words``."""
    return next((markers for markers in _THINKING if markers.end in words), None)


def content_named_in(words: str) -> Markers | None:
    """The content of the family that is told to write it between the markers in ``words``."""
    return _RESPONSE if _RESPONSE.start + _RESPONSE.end in words else None
