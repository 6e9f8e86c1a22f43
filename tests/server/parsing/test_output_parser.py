"""A model's output, separated: the result is the same wherever the text is cut."""

import json

import pytest
from support.cpu_time import cpu_time
from support.notation_samples import NOW_CALL, NOW_OBJECT, OBJECT, SAMPLES, TOOL_CALL
from support.notations import (
    ACTION,
    BARE,
    GEMMA,
    HARMONY,
    HERMES,
    NOW,
    NUMBERED,
    ROME,
    TURNS,
    WITH_ID,
    XML,
    read,
    read_all_ways,
    use_of,
)

from mlxnode.server.notation.notation import NO_NOTATION
from mlxnode.server.parsing.output_parser import FEW_WORDS, OutputParser


@pytest.mark.parametrize("name", SAMPLES)
def test_calls_are_read_in_the_notation_of_the_model(name):
    notation, first, second = SAMPLES[name]
    text = f"I look.\n{first}{second}\nDone."
    assert read_all_ways(notation, text) == ("I look.\nDone.", "", [ROME, NOW])


@pytest.mark.parametrize("name", SAMPLES)
def test_a_call_that_is_cut_off_leaves_no_trace(name):
    notation, first, second = SAMPLES[name]
    text = first + second
    for end in range(len(text)):
        parser = OutputParser(notation, tools=use_of(notation))
        output = read(parser, [text[:end]], is_cut=True)
        calls = [(call.name, json.loads(call.arguments)) for call in output.calls]
        assert not output.content and calls == [ROME, NOW][: len(calls)], text[:end]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_call_that_the_model_leaves_unfinished_is_content(name):
    notation, first, _ = SAMPLES[name]
    text = first[: first.index("Rome") + 2]
    assert read_all_ways(notation, text) == (text, "", [])


@pytest.mark.parametrize("name", SAMPLES)
def test_special_tokens_are_no_content(name):
    notation, first, _ = SAMPLES[name]
    parser = OutputParser(notation, tools=use_of(notation))
    place = first.index("get_weather")
    special, rest = first[:place], first[place:].replace("get_weather", "nothing")
    content = parser.feed("See: ").content
    content += parser.feed(special, is_special=True).content
    content += read(parser, list(rest)).content
    assert "nothing" in content and content.startswith("See: ")
    assert special.strip() not in content


@pytest.mark.parametrize(
    ("text", "is_thinking", "content", "reasoning"),
    [
        ("<think>\na < b\n</think>\n\nYes.", False, "Yes.", "a < b"),
        ("a < b\n</think>\n\nYes.", True, "Yes.", "a < b"),
        ("<think>a < b\n</think>\n\nYes.", True, "Yes.", "a < b"),
        ("no end of it", True, "", "no end of it"),
        ("<think></think>Yes. ", False, "Yes. ", ""),
        (" plain <thin", False, " plain <thin", ""),
        ("one<think>two</think>three", False, "onethree", "two"),
        ("<think>one</think>two<think>three</think>", False, "two", "one\n\nthree"),
        ("Hm.\n</think>\n\nYes.", False, "Yes.", "Hm."),
        ("</think>\n\nYes.", False, "Yes.", ""),
        ("Yes." * FEW_WORDS + "\n</think>\n\nNo.", False, "Yes." * FEW_WORDS + "\n\n\nNo.", ""),
    ],
)
def test_reasoning_is_told_from_the_answer(text, is_thinking, content, reasoning):
    assert read_all_ways(HERMES, text, is_thinking=is_thinking) == (content, reasoning, [])


@pytest.mark.parametrize("start", ["", "<think>\n"])
def test_a_model_that_is_expected_to_think_may_forget_to_say_so(start):
    thought = "Let me think about that for a while." * 3
    text = f"{start}{thought}\n</think>\n\nYes."
    assert read_all_ways(HERMES, text, is_expected_to_think=True) == ("Yes.", thought, [])
    assert read_all_ways(HERMES, f"Yes.{TOOL_CALL}", is_expected_to_think=True) == (
        "Yes.",
        "",
        [ROME],
    )
    assert read_all_ways(HERMES, "Yes. " * 300, is_expected_to_think=True)[0] == "Yes. " * 300


def test_content_has_markers_of_its_own():
    text = "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>"
    assert read_all_ways(ACTION, text) == ("Yes.", "Hm.", [])
    text = "Hm.<|START_RESPONSE|>Yes.<|END_RESPONSE|>"
    assert read_all_ways(ACTION, text, is_thinking=True) == ("Yes.", "Hm.", [])


def test_a_silent_text_stands_between_a_thought_and_a_call():
    text = f"<|think|>Hm.<|end|><|begin|>assistant{SAMPLES['turns'][1]}"
    assert read_all_ways(TURNS, text) == ("", "Hm.", [ROME])


@pytest.mark.parametrize(
    ("text", "content", "reasoning", "calls"),
    [
        (f"<think>I call.\n{TOOL_CALL}", "", "I call.", [ROME]),
        (f"<think>I call.\n{TOOL_CALL}\n{NOW_CALL}\n", "", "I call.", [ROME, NOW]),
        (f"<think>I call {NOW_CALL}</think>Yes.", "Yes.", f"I call {NOW_CALL}", []),
        (f"<think>I call {NOW_CALL} or not", "", f"I call {NOW_CALL} or not", []),
        ("<think>Is it <tool_call>?</think>Yes.", "Yes.", "Is it <tool_call>?", []),
    ],
)
def test_a_call_in_a_thought_counts_if_the_text_ends_with_it(text, content, reasoning, calls):
    assert read_all_ways(HERMES, text) == (content, reasoning, calls)


@pytest.mark.parametrize("count", [1, 2])
def test_a_bare_object_at_the_start_is_a_call_where_the_family_writes_so(count):
    text = "; ".join([OBJECT, NOW_OBJECT][:count])
    assert read_all_ways(BARE, text) == ("", "", [ROME, NOW][:count])
    assert read_all_ways(BARE, f"<|python_tag|>{text}") == ("", "", [ROME, NOW][:count])
    for other in (f"So: {OBJECT}", '{"name": "Rome"}', '{"a": 1}', "{", '{"name": "now"'):
        assert read_all_ways(BARE, other) == (other, "", [])


def test_an_object_that_is_no_call_is_not_held():
    parser = OutputParser(BARE, tools=use_of(BARE))
    assert parser.feed('{"title": "').content == '{"title": "'
    parser = OutputParser(BARE, tools=use_of(BARE))
    assert parser.feed('{"name": "Rome", ').content == '{"name": "Rome",'


# --- the ends of an answer ------------------------------------------------------------


def test_without_parallel_calls_the_first_is_the_last():
    for name, (notation, first, second) in SAMPLES.items():
        parser = OutputParser(notation, tools=use_of(notation, max_calls=1))
        output = parser.feed(f"{first}{second} more")
        if name != "listed":  # a list is read as a whole
            assert parser.is_finished
        assert [call.name for call in output.calls] == ["get_weather"]


def test_a_model_that_must_call_does_not_repeat_itself():
    again = OBJECT.replace('"city": "Rome", "days": 2', '"days": 2,  "city": "Rome"')
    parts = [TOOL_CALL, NOW_CALL, f"<tool_call>{again}</tool_call>", "rest"]
    parser = OutputParser(HERMES, tools=use_of(HERMES, must_call=True))
    output = read(parser, parts)
    assert [call.name for call in output.calls] == ["get_weather", "now"]
    assert parser.is_finished and not output.content
    parser = OutputParser(HERMES, tools=use_of(HERMES))
    assert len(read(parser, parts[:3]).calls) == 3 and not parser.is_finished


def test_enforced_arguments_come_as_they_are_written():
    for name in ("hermes", "named", "listed", "action", "keyed", "numbered", "turns"):
        notation, first, second = SAMPLES[name]
        parser = OutputParser(notation, tools=use_of(notation, must_call=True))
        start, rest = first.split('{"city"')
        delta = parser.feed(f'Yes.{start}{{"ci')
        assert delta.content == "Yes."
        assert [(call.name, call.arguments) for call in delta.calls] == [
            ("get_weather", '{"ci')
        ]
        assert parser.feed('ty"').calls[0].arguments == 'ty"'
        output = read(parser, [*rest, *second])
        assert [call.name for call in output.calls if call.name] == ["now"], name
        assert not output.content


def test_other_arguments_come_when_they_are_complete():
    parser = OutputParser(HERMES, tools=use_of(HERMES))
    assert not parser.feed(f"<tool_call>{OBJECT[:-1]}")
    [call] = parser.feed("}").calls
    assert call.arguments == '{"city": "Rome", "days": 2}'


# --- ids and tokens -------------------------------------------------------------------


def test_the_ids_are_the_models_own_where_they_fit():
    _, first, second = SAMPLES["with id"]
    output = read(OutputParser(WITH_ID, tools=use_of(WITH_ID)), [first, second])
    assert [call.id for call in output.calls] == ["abcdefghi", "abcdefghj"]
    output = read(OutputParser(WITH_ID, tools=use_of(WITH_ID)), [first, first])
    ids = [call.id for call in output.calls]
    assert ids[0] == "abcdefghi" != ids[1] and len(ids[1]) == 9 and ids[1].isalnum()
    [call] = read(OutputParser(HERMES, tools=use_of(HERMES)), [TOOL_CALL]).calls
    assert call.id.startswith("call_") and len(call.id) == 29


def test_special_tokens_are_wanted_if_the_notation_has_them():
    parser = OutputParser(NUMBERED, tools=use_of(NUMBERED))
    assert parser.wants("<|call_begin|>") and not parser.wants("<|im_end|>")
    assert not OutputParser(NUMBERED).wants("<|call_begin|>")
    parser = OutputParser(GEMMA, tools=use_of(GEMMA))
    assert parser.wants('<|"|>') and parser.wants("<channel|>")
    assert OutputParser(HARMONY).wants("<|channel|>")


def test_without_tools_a_call_is_text():
    assert read(OutputParser(HERMES), list(TOOL_CALL)).content == TOOL_CALL
    assert OutputParser(NO_NOTATION).feed(" a ").content == " a "


# --- time -----------------------------------------------------------------------------

HOSTILE = {
    "openers": "<tool_call>",
    "open objects": "<tool_call>{",
    "open strings": '<tool_call>{"',
    "open values": "<tool_call><function=now><parameter=a>",
    "false ends": "</parameter>x",
    "braces": "{",
    "calls in a thought": f"<think>{NOW_CALL}",
    "thoughts": "<think></think>",
    "space": " ",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("notation", [HERMES, XML, HARMONY], ids=["hermes", "xml", "harmony"])
def test_the_time_is_in_proportion_to_the_length(name, notation):
    def seconds(count: int) -> float:
        text = "<tool_call><function=get_weather><parameter=city>" * (name == "false ends")
        text += HOSTILE[name] * count
        parser = OutputParser(notation, tools=use_of(notation))
        with cpu_time() as spent:
            for at in range(0, len(text), 4):
                parser.feed(text[at : at + 4])
            parser.feed("", is_last=True)
        return spent.seconds

    # Three times that of a linear reader for 8 times the text; quadratic would be 64 times.
    assert seconds(4000) < 24 * max(seconds(500), 0.01)
