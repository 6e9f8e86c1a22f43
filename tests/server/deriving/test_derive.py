"""Notations read off chat templates, of families and of templates made up at random."""

import random
from typing import Any

import pytest
from support.notation_pieces import JSON, NOW, ROME, calls, chatml, each, text, xml
from support.notation_templates import CHATML, FAMILIES, THINK
from support.notation_wrapper import make_wrapper

from mlxnode.server.deriving.derive import derive_notation
from mlxnode.server.notation.describe import describe
from mlxnode.server.notation.notation import Markers, Notation
from mlxnode.server.notation.write import write_calls

ARGUMENTS = '{"city": "Rome", "days": 2}'
CALL = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
CALL_NOW = '{"name": "now", "arguments": {}}'
HERMES = f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL_NOW}\n</tool_call>"
CODER = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n"
    "<tool_call>\n<function=now>\n</function>\n</tool_call>"
)
GLM = (
    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>"
)
KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    f"<|tool_call_argument_begin|>{ARGUMENTS}<|tool_call_end|><|tool_call_begin|>functions.now:1"
    "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
)
MINIMAX = (
    '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome'
    '</parameter>\n<parameter name="days">2</parameter>\n</invoke>\n'
    '<invoke name="now">\n</invoke>\n</minimax:tool_call>'
)
DSML = (
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">Rome</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    '<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>'
)
IDS = ("a1b2c3d4e", "f5g6h7i8j")
PYTHON = "<|tool_call_start|>[get_weather(city='Rome', days=2), now()]<|tool_call_end|>"
# What a model of the family writes to call both tools, and around its reasoning.
EXPECTED: dict[str, tuple[str | None, tuple[str, str] | None]] = {
    "qwen2.5": (HERMES, None),
    "qwen3": (HERMES, THINK),
    "qwen3-coder": (CODER, None),
    "qwen3.5": (CODER, THINK),
    "step3.5": (CODER.replace("</tool_call>\n", "</tool_call>"), THINK),
    "seed-oss": (
        CODER.replace("tool_call>", "seed:tool_call>")
        .replace(">\nRome\n<", ">Rome<")
        .replace(">\n2\n<", ">2<"),
        ("<seed:think>", "</seed:think>"),
    ),
    "hermes": (HERMES, None),
    "llama3": (f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}', None),
    "granite4": (HERMES, None),
    "granite3": (f"<|tool_call|>[{CALL}, {CALL_NOW}]", None),
    "nemotron-v2": (f"<TOOLCALL>[{CALL}, {CALL_NOW}]</TOOLCALL>", THINK),
    "apriel": (f"<tool_calls>[{CALL}, {CALL_NOW}]</tool_calls>", None),
    "mistral-nemo": (
        f'[TOOL_CALLS][{CALL[:-1]}, "id": "000000000"}}, {CALL_NOW[:-1]}, "id": "000000001"}}]',
        None,
    ),
    "mistral-small": (
        f"[TOOL_CALLS]get_weather[CALL_ID]000000000[ARGS]{ARGUMENTS}"
        "[TOOL_CALLS]now[CALL_ID]000000001[ARGS]{}",
        None,
    ),
    "devstral": (f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]now[ARGS]{{}}", None),
    "magistral": (
        f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}[TOOL_CALLS]now[ARGS]{{}}",
        ("[THINK]", "[/THINK]"),
    ),
    "deepseek-v3.1": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        f"{ARGUMENTS}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{{}}"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        THINK,
    ),
    "deepseek-v3.2": (DSML, THINK),
    "r1-distill": (None, THINK),
    "glm4.6": (GLM, THINK),
    "glm4.7": (GLM.replace("\n", ""), THINK),
    "kimi-k2": (KIMI, None),
    "kimi-k2.5": (KIMI, THINK),
    "command-r7b": (
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", '
        f'"parameters": {ARGUMENTS}}},\n    {{"tool_call_id": "1", "tool_name": "now", '
        '"parameters": {}}\n]<|END_ACTION|>',
        ("<|START_THINKING|>", "<|END_THINKING|>"),
    ),
    "apertus": (
        f'<|tools_prefix|>[{{"get_weather": {ARGUMENTS}}}, {{"now": {{}}}}]<|tools_suffix|>',
        ("<|inner_prefix|>", "<|inner_suffix|>"),
    ),
    "solar": (
        "<|tool_calls|><|tool_call:begin|>000000000<|tool_call:name|>get_weather"
        f"<|tool_call:args|>{ARGUMENTS}<|tool_call:end|><|tool_call:begin|>000000001"
        "<|tool_call:name|>now<|tool_call:args|>{}<|tool_call:end|>",
        ("<|think|>", "<|end|>"),
    ),
    "gpt-oss": (
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        f"{ARGUMENTS}",
        ("<|channel|>analysis<|message|>", "<|end|>"),
    ),
    "minimax-m2": (MINIMAX, THINK),
    "gemma4": (
        '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>,days:2}<tool_call|>'
        "<|tool_call>call:now{}<tool_call|>",
        ("<|channel>thought", "<channel|>"),
    ),
    "gemma3": (None, None),
    "lfm2": (PYTHON, None),
    "lfm2.5": (PYTHON, THINK),
}


def derive(template: str | None, tokens: tuple[str, ...] = ()) -> Notation:
    return derive_notation(make_wrapper(template, tokens))


def of_family(name: str) -> Notation:
    return derive(FAMILIES[name].template, FAMILIES[name].tokens)


@pytest.mark.parametrize("name", FAMILIES)
def test_derive_reads_off_what_the_family_writes(name):
    notation = of_family(name)
    written, thinking = EXPECTED[name]
    assert notation.source == FAMILIES[name].source
    assert (notation.thinking and (notation.thinking.start, notation.thinking.end)) == thinking
    if written is None:
        assert notation.calls is None
    else:
        assert notation.calls is not None
        called = [ROME, NOW] if notation.calls.has_several else [ROME]
        assert write_calls(notation.calls, called) == written


def test_derive_finds_the_markers_of_content_and_what_is_between():
    assert of_family("command-r7b").content == Markers("<|START_RESPONSE|>", "<|END_RESPONSE|>")
    solar = of_family("solar")
    assert solar.content == Markers("<|content|>", "<|end|>")
    assert solar.silent == ("<|begin|>assistant",)
    others = set(FAMILIES) - {"command-r7b", "solar", "gpt-oss"}
    assert not any(of_family(name).content for name in others)


def test_derive_finds_the_tokens_that_end_an_answer_with_calls():
    ends = {name: notation.ends for name in FAMILIES if (notation := of_family(name)).ends}
    assert ends == {
        "solar": ("<|calls|>",),
        "gemma4": ("<|tool_response>",),
        "gpt-oss": ("<|call|>", "<|return|>"),
    }


def test_derive_knows_families_with_bare_single_and_short_calls():
    llama = of_family("llama3")
    assert llama.calls is not None
    assert llama.calls.is_bare
    assert not llama.calls.has_several
    assert llama.silent == ("<|python_tag|>",)
    found = {name: of_family(name).calls for name in FAMILIES}
    assert [name for name, notation in found.items() if notation and notation.short_ids] == [
        "mistral-nemo",
        "mistral-small",
    ]
    assert [name for name, notation in found.items() if notation and notation.is_bare] == [
        "llama3"
    ]


def test_derive_says_if_the_template_cannot_write_calls_or_tell_tools():
    assert not of_family("kimi-k2.5").writes_history
    assert of_family("kimi-k2").writes_history
    silent = FAMILIES["qwen3"].template.replace("for tool in tools or []", "for tool in []")
    notation = derive(silent, FAMILIES["qwen3"].tokens)
    assert notation.calls == of_family("qwen3").calls
    assert not notation.tells_tools


@pytest.mark.parametrize(
    ("piece", "change"),
    [
        ("(a | tojson)", "a"),  # arguments have to be JSON in a string
        (
            '{{ \'{"name"',
            "{% if not m.content %}{{ raise_exception('no') }}{% endif %}{{ '{\"name\"",
        ),
        (
            '{{ \'{"name"',
            "{% if m.content is not none %}{{ raise_exception('no') }}{% endif %}{{ '{\"name\"",
        ),
    ],
)
def test_derive_tries_what_templates_accept(piece, change):
    template = FAMILIES["hermes"].template
    assert piece in template
    assert derive(template.replace(piece, change)).calls == of_family("hermes").calls


def broken(piece: str) -> str:
    """A template whose calls are ``piece`` in the tags of Hermes."""
    return chatml(calls(text("<call>") + piece + text("</call>"), separator="\n"))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "there is no chat template"),
        ("{{ raise_exception('never') }}", "does not write the calls"),
        ("{{ messages[0].nothing.at_all }}", "does not write the calls"),
        (chatml(""), "does not write the calls"),
        (broken("{{ f.name }} {{ f.name }} {{ a | tojson }}"), "more than once"),
        (broken("{{ f.name }} {{ a.keys() | list }}"), "does not write all arguments"),
        (broken("{{ f.name | upper }} {{ a | tojson }}"), "does not write the calls"),
        (chatml(calls("{{ f.name }}{{ a | tojson }}")), "nothing marks the beginning"),
        (
            chatml(calls(text("<|im_end|>\n<call>") + JSON)),
            "ends the answer before its calls",
        ),
    ],
)
def test_derive_falls_back_to_plain_words_and_says_why(template, reason):
    notation = derive(template, CHATML)
    assert notation.calls is None
    assert notation.source == "plain"
    assert reason in notation.reason
    assert "in plain words (" + notation.reason in describe(notation)[1]


def test_derive_survives_a_wrapper_that_breaks():
    wrapper = make_wrapper(FAMILIES["qwen3"].template)
    wrapper.get_added_vocab = None
    notation = derive_notation(wrapper)
    assert notation.source == "plain"
    assert "not callable" in notation.reason


def test_derive_refuses_a_notation_that_the_template_does_not_keep_to():
    """What is read off one call is not what is written for another: the proof fails."""
    shortened = "{{ f.name }}:{{ (a if a.qzkeyb is string else {}) | tojson }}"
    notation = derive(broken(shortened), CHATML)
    assert notation.source == "plain"
    assert notation.reason == "the template does not keep to the notation read off it"


def random_family(rng: random.Random) -> tuple[str, str, tuple[str, ...]]:
    """A template with calls of its own kind, what it writes for both tools, and its tokens."""
    words = rng.sample(["act", "do", "tool", "run", "job", "step", "use"], 4)
    shape = rng.choice(["<|%s|>", "<%s>", "[%s]", "<%s:x>"])
    opening, closing, item, value = (
        (shape % (word.upper() if shape[0] == "[" else word)) for word in words
    )
    gap, separator = rng.choice(["", "\n"]), rng.choice(["", "\n", ", ", ";"])
    kind = rng.choice(["json", "list", "turned", "id", "python", "xml", "tags"])
    if kind == "turned":
        piece = "{{ '{\"arguments\": ' + (a | tojson) + ', \"name\": \"' + f.name + '\"}' }}"
    elif kind == "id":
        piece = (
            text(item) + "{{ c.id }}" + text(value) + "{{ f.name + '(' + (a | tojson) + ')' }}"
        )
    elif kind == "python":
        value = '{{ "\'" + v + "\'" if v is string else v }}'
        piece = (
            "{{ f.name }}({% for k, v in a.items() %}{{ ', ' if not loop.first }}"
            "{{ k }}=VALUE{% endfor %})"
        ).replace("VALUE", value)
    elif kind in ("json", "list"):
        key = rng.choice(["arguments", "parameters", "input"])
        piece = JSON.replace('\\"arguments\\"', f'\\"{key}\\"').replace(
            '"arguments"', f'"{key}"'
        )
    elif kind == "xml":
        piece = xml(gap, gap)
    else:
        piece = (
            "{{ f.name }}"
            + text(gap)
            + each(
                text(item)
                + "{{ k }}"
                + text(value)
                + "{{ v if v is string else v | tojson }}"
                + text(closing)
            )
        )
    if kind == "list":
        marked = calls(piece, start=f"{opening}{gap}[", separator=", ", end=f"]{gap}{closing}")
    else:
        marked = calls(
            text(opening + gap) + piece + text(gap + closing + "!"), separator=separator
        )
    return chatml(marked), opening, (opening, closing, item, value)


@pytest.mark.parametrize("seed", range(60))
def test_derive_reads_off_families_that_nobody_has_seen(seed):
    template, opening, tokens = random_family(random.Random(seed))
    wrapper = make_wrapper(template, (*CHATML, *tokens))
    notation = derive_notation(wrapper)
    assert notation.source == "template", notation.reason
    assert notation.calls is not None
    rendered = wrapper.apply_chat_template(
        [{"role": "user", "content": "?"}, answer([ROME, NOW])], tokenize=False
    )
    written = write_calls(notation.calls, [ROME, NOW], IDS)
    assert written in rendered
    assert written.startswith(opening)


def answer(called: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    functions = [{"name": name, "arguments": arguments} for name, arguments in called]
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": id, "type": "function", "function": function}
            for id, function in zip(IDS, functions, strict=True)
        ],
    }
