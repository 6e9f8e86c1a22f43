"""Calls in each of the notations of ``notations.py``."""

from support.notations import (
    ACTION,
    GEMMA,
    HERMES,
    INVOKE,
    KEYED,
    LISTED,
    NAMED,
    NUMBERED,
    PAIRS,
    PYTHON,
    TURNS,
    WITH_ID,
    XML,
)

ARGUMENTS = '{"city": "Rome", "days": 2}'
OBJECT = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
NOW_OBJECT = '{"name": "now", "arguments": {}}'
TOOL_CALL = f"<tool_call>\n{OBJECT}\n</tool_call>"
NOW_CALL = f"<tool_call>\n{NOW_OBJECT}\n</tool_call>"
FUNCTION = (
    "<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>"
)

# For each notation, one call of ``get_weather``; and a second one of ``now``.
SAMPLES = {
    "hermes": (HERMES, TOOL_CALL, f"\n{NOW_CALL}"),
    "xml": (
        XML,
        f"<tool_call>\n{FUNCTION}\n</tool_call>",
        "\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    ),
    "pairs": (
        PAIRS,
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        "\n<tool_call>now\n</tool_call>",
    ),
    "invoke": (
        INVOKE,
        '<do:calls>\n<do:invoke name="get_weather">\n<do:parameter name="city" string="true">'
        'Rome</do:parameter>\n<do:parameter name="days" string="false">2</do:parameter>\n'
        "</do:invoke>",
        '\n<do:invoke name="now">\n</do:invoke>\n</do:calls>',
    ),
    "named": (NAMED, f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}", "[TOOL_CALLS]now[ARGS]{}"),
    "with id": (
        WITH_ID,
        f"[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{ARGUMENTS}",
        "[TOOL_CALLS]now[CALL_ID]abcdefghj[ARGS]{}",
    ),
    "listed": (LISTED, f"[TOOL_CALLS][{OBJECT}", f", {NOW_OBJECT}]"),
    "action": (
        ACTION,
        f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "get_weather", '
        f'"parameters": {ARGUMENTS}}}',
        ',\n    {"tool_call_id": "1", "tool_name": "now", "parameters": {}}\n]<|END_ACTION|>',
    ),
    "keyed": (
        KEYED,
        f'<|tools_prefix|>[{{"get_weather": {ARGUMENTS}}}',
        ', {"now": {}}]<|tools_suffix|>',
    ),
    "numbered": (
        NUMBERED,
        "<|calls_begin|><|call_begin|>functions.get_weather:0<|argument_begin|>"
        f"{ARGUMENTS}<|call_end|>",
        "<|call_begin|>functions.now:1<|argument_begin|>{}<|call_end|><|calls_end|>",
    ),
    "python": (
        PYTHON,
        "<|tool_call_start|>[get_weather(city='Rome', days=2)",
        ", now()]<|tool_call_end|>",
    ),
    "gemma": (
        GEMMA,
        '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>,days:2}<tool_call|>',
        "<|tool_call>call:now{}<tool_call|>",
    ),
    "turns": (
        TURNS,
        f"<|tool_calls|><|call:begin|>a1<|call:name|>get_weather<|call:args|>{ARGUMENTS}"
        "<|call:end|>",
        "<|call:begin|>a2<|call:name|>now<|call:args|>{}<|call:end|>",
    ),
}
