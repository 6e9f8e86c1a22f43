"""The end of a model's reasoning at a limit: its markers and its closing text, as tokens.

The text around the end marker is read off the chat template, by rendering an answer that
reasons before it says something or calls a function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tokenizers import Encoding, Tokenizer

from mlxnode.server.notation.notation import Notation
from mlxnode.server.prompt.borders import common_prefix
from mlxnode.server.prompt.renderer import Renderer
from mlxnode.server.prompt.spellings import Speller, Spelling

Encode = Callable[[str], Encoding]
Fields = dict[str, Any]  # of a message

_THOUGHT, _CONTENT, _NAME = "\ua66e\ua66d", "\ua66d\ua66e", "name_of_a_function"
# What templates call the reasoning of an answer.
_FIELDS = ("reasoning_content", "reasoning", "thinking")
_FUNCTION = {"name": _NAME, "arguments": {}}
_CALL = {"id": "000000000", "type": "function", "function": _FUNCTION}
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}
_BREAK = "\n"  # before the end marker, where the template does not tell


@dataclass(frozen=True)
class ThinkingTokens:
    """How the reasoning starts and ends, in tokens.

    ``starts`` and ``ends`` have all spellings of the markers. ``sentence`` is what the model is
    made to think last. ``end`` ends the reasoning and leaves open what follows, ``answer`` ends
    it and starts the content.
    """

    starts: list[Spelling]
    ends: list[Spelling]
    sentence: list[int]
    end: list[int]
    answer: list[int]

    @classmethod
    def of(
        cls, renderer: Renderer, notation: Notation, tokenizer: Tokenizer, sentence: str
    ) -> "ThinkingTokens | None":
        """The tokens of a model with ``tokenizer``, whose template ``renderer`` runs.

        None for a model that does not mark its reasoning.
        """
        markers = notation.thinking
        if markers is None or not markers.end:
            return None

        def encode(text: str) -> Encoding:
            return tokenizer.encode(text, add_special_tokens=False)

        spell = Speller(tokenizer).spellings
        said = _ending(renderer, markers.end, {"content": _CONTENT}, _CONTENT)
        called = _ending(renderer, markers.end, {"content": "", "tool_calls": [_CALL]}, _NAME)
        space = next((ending.space for ending in (said, called) if ending), _BREAK)
        start = "" if notation.content is None else notation.content.start
        if notation.is_harmony:
            start = f"<|start|>assistant{start}"  # its templates drop thoughts before a text
        answer = encode(said.rest if said else start).ids
        num_shared = common_prefix(answer, encode(called.rest).ids) if called else 0
        end = _ids(encode, space) + encode(markers.end).ids
        return cls(
            starts=spell(markers.start) if markers.start else [],
            ends=spell(markers.end),
            sentence=_ids(encode, f"\n\n{sentence}") if sentence else [],
            end=end + answer[:num_shared],
            answer=end + answer,
        )


class _Ending(NamedTuple):
    """The texts before and after the end marker: of a thought, and of what follows it."""

    space: str
    rest: str


def _ending(renderer: Renderer, end: str, answer: Fields, follows: str) -> _Ending | None:
    """How the template goes from a thought to ``follows``, a text of ``answer``.

    None if the template drops the thought, or has no place for ``answer``.
    """
    part = {"type": "thinking", "thinking": _THOUGHT}
    parts = [part, {"type": "text", "text": answer["content"]}]
    thoughts: tuple[Fields, ...] = (dict.fromkeys(_FIELDS, _THOUGHT), {"content": parts})
    for thought in thoughts:
        _, _, text = _render(renderer, {**answer, **thought}).partition(_THOUGHT)
        between, is_followed, _ = text.partition(follows)
        space, is_ended, rest = between.partition(end)
        if is_followed and is_ended and not space.strip() and _THOUGHT not in rest:
            return _Ending(space, rest.rstrip())
    return None


def _render(renderer: Renderer, answer: Fields) -> str:
    messages: Any = [{"role": "user", "content": "a"}, {"role": "assistant", **answer}]
    tools = [_TOOL] if "tool_calls" in answer else None
    return renderer.try_render(messages, tools=tools, starts_answer=False) or ""


def _ids(encode: Encode, text: str) -> list[int]:
    """The tokens of ``text`` within another text: some tokenizers put a space at the start."""
    anchor, whole = encode("a").ids, encode(f"a{text}").ids
    is_split = whole[: len(anchor)] == anchor
    return whole[len(anchor) :] if is_split else encode(text).ids
