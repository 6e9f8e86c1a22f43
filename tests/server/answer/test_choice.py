"""A choice: tokens become content, reasoning and calls; its end has one reason."""

from types import SimpleNamespace
from typing import Any

import pytest
from support.notations import HERMES, NUMBERED, use_of

from mlxnode.messages.data import Token, Update
from mlxnode.server.answer.choice import Choice
from mlxnode.server.answer.events import CallBegun, Event, content_of, reasoning_of
from mlxnode.server.notation.notation import Notation
from mlxnode.server.parsing.output_parser import OutputParser

CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
SPECIALS = ["<|calls_begin|>", "<|call_begin|>", "<|argument_begin|>", "<|call_end|>"]
SPECIALS += ["<|calls_end|>", "<|other|>"]


class Detokenizer:
    """One character a token; special tokens, below 0, have no text."""

    def feed(self, token: int) -> str:
        return chr(token) if token > 0 else ""


class Output:
    """What clients see of the events."""

    def __init__(self, events: list[Event]):
        self.content, self.reasoning = content_of(events), reasoning_of(events)
        self.calls = [event for event in events if isinstance(event, CallBegun)]
        self.events = events


def choice_of(notation: Notation, *, stops: list[str] | None = None, **options: Any) -> Choice:
    tokenizer = SimpleNamespace(
        detokenizer=lambda _: Detokenizer(),
        special_tokens={-i: special for i, special in enumerate(SPECIALS, 1)},
    )
    request = SimpleNamespace(
        model=SimpleNamespace(tokenizer=tokenizer),
        new_parser=lambda: OutputParser(notation, tools=use_of(notation, **options)),
        stop_strings=stops or [],
        echoes_prompt=False,
        discards_output=False,
        has_logprobs=False,
    )
    return Choice(request, SimpleNamespace(ids=[]))  # type: ignore[arg-type]


def feed(choice: Choice, text: str, finish: Any = None) -> Any:
    """The output for ``text``, in which special tokens are written as they are."""
    ids: list[int] = []
    while text:
        special = next((s for s in SPECIALS if text.startswith(s)), None)
        ids.append(ord(text[0]) if special is None else -1 - SPECIALS.index(special))
        text = text[len(special or text[0]) :]
    tokens = [Token(id, None) for id in ids]
    choice.feed(Update(uid=0, tokens=tokens, finish=finish))
    return Output(choice.take_delta(0).events)


@pytest.mark.parametrize(
    ("text", "finish", "reason", "content"),
    [
        ("Yes.", "stop", "stop", "Yes."),
        (CALL, "stop", "tool_calls", ""),
        (CALL, "length", "length", ""),
        (CALL[:-20], "length", "length", ""),
        (CALL[:-20], "stop", "stop", CALL[:-20]),
        ("Yes. <tool", "length", "length", "Yes. "),
        (f"<think>{CALL}", "stop", "tool_calls", ""),
    ],
)
def test_choice_ends_for_one_reason(text, finish, reason, content):
    choice = choice_of(HERMES)
    assert feed(choice, text, finish).content == content
    assert choice.finish_reason == reason


def test_choice_is_finished_with_its_only_call():
    choice = choice_of(HERMES, max_calls=1)
    output = feed(choice, f"{CALL}{CALL} more")
    assert choice.finish_reason == "tool_calls" and len(output.calls) == 1


def test_choice_finds_stop_strings_in_the_content_only():
    choice = choice_of(HERMES, stops=["now"])
    output = feed(choice, f"<think>now</think>{CALL}Not now.", "stop")
    assert (output.content, output.reasoning) == ("Not ", "now")
    assert choice.finish_reason == "stop" and len(output.calls) == 1


def test_choice_counts_the_tokens_of_the_reasoning():
    choice = choice_of(HERMES)
    feed(choice, "<think>Hm.</think>Yes.", "stop")
    assert choice.num_reasoning_tokens == len("Hm.</think>")
    assert choice.num_tokens == len("<think>Hm.</think>Yes.") + 1


def test_choice_shows_special_tokens_to_the_parser_only():
    call = "<|calls_begin|><|call_begin|>functions.now:0<|argument_begin|>{}<|call_end|>"
    output = feed(choice_of(NUMBERED), f"I <|other|>look.{call}<|calls_end|>", "stop")
    assert output.content == "I look." and [c.name for c in output.calls] == ["now"]
    output = feed(choice_of(NUMBERED), call.replace("now", "later"), "stop")
    assert output.content == "functions.later:0{}" and not output.calls
