"""Reads a notation off a chat template, by rendering conversations with it."""

from typing import Any

from mlxnode.server.notation.notation import CallNotation, Field, Markers, Notation


def derive_notation(wrapper: Any) -> Notation:
    """The notation of the model that ``wrapper``, a tokenizer of mlx-lm, belongs to."""
    thinking = calls = None
    if wrapper.has_thinking:
        thinking = Markers(wrapper.think_start, wrapper.think_end)
    if wrapper.has_tool_calling and wrapper.tool_parser.__module__.endswith("json_tools"):
        head = '<tool_call>\n{"name": "'
        call = (head, Field.NAME, '", "arguments": ', Field.ARGUMENTS, "}\n</tool_call>")
        calls = CallNotation(call, separator="\n")
    return Notation(thinking=thinking, calls=calls)
