"""Chat templates of families that mark calls with tokens of their own, with outputs."""

from support.notation_pieces import (
    CONTENT,
    NINE,
    NOW,
    ROME,
    Family,
    Sample,
    calls,
    chat,
    text,
)
from support.notation_tagged import DEEPSEEK, deepseek

MISTRAL = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]")
MISTRAL += ("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
DEEPSEEK_CALLS = tuple(
    f"<｜tool▁{part}｜>"
    for part in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")
)
KIMI = ("<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "<|im_end|>")
KIMI += tuple(
    f"<|tool_{part}|>"
    for part in (
        "calls_section_begin",
        "calls_section_end",
        "call_begin",
        "call_argument_begin",
        "call_end",
    )
)
COHERE = ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>")
COHERE += ("<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|START_THINKING|>", "<|END_THINKING|>")
COHERE += ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_ACTION|>", "<|END_ACTION|>")
APERTUS = ("<|system_start|>", "<|system_end|>", "<|user_start|>", "<|user_end|>")
APERTUS += ("<|assistant_start|>", "<|assistant_end|>", "<|inner_prefix|>")
APERTUS += ("<|inner_suffix|>", "<|tools_prefix|>", "<|tools_suffix|>")
SOLAR = ("<|begin|>", "<|end|>", "<|content|>", "<|think|>", "<|tool_calls|>", "<|calls|>")
SOLAR += ("<|tool_call:begin|>", "<|tool_call:name|>", "<|tool_call:args|>")
SOLAR += ("<|tool_call:end|>",)
HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>")
HARMONY += ("<|call|>",)

_ARGUMENTS = '{"city": "Rome", "days": 2}'
_JSON = f'{{"name": "get_weather", "arguments": {_ARGUMENTS}}}'
_V11 = "{{ '[TOOL_CALLS]' + f.name + '[ARGS]' + (a | tojson) }}"
_GLM_VALUE = "{{ v if v is string else v | tojson }}"


def _mistral(calls: str, thought: str = "") -> str:
    return chat(
        thought + CONTENT + calls + "{{ eos_token }}",
        system="[SYSTEM_PROMPT]%s[/SYSTEM_PROMPT]",
        user="[INST]%s[/INST]",
        tool="[TOOL_RESULTS]%s[/TOOL_RESULTS]",
        prompt="",
        tell="{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}",
    )


_KIMI_CALL = (
    "{{ '<|tool_call_begin|>functions.' + f.name + ':' + loop.index0 | string }}"
    "{{ '<|tool_call_argument_begin|>' + (a | tojson) + '<|tool_call_end|>' }}"
)
_SOLAR_CALL = (
    "{{ '<|tool_call:begin|>' + c.id + '<|tool_call:name|>' + f.name }}"
    "{{ '<|tool_call:args|>' + (a | tojson) + '<|tool_call:end|>' }}"
)
_COMMAND_CALL = (
    '{{ \'    {"tool_call_id": "\' }}{{ loop.index0 }}{{ \'", "tool_name": "\' + f.name }}'
    "{{ '\", \"parameters\": ' + (a | tojson) + '}' }}"
)
_GPT_OSS = (
    "{% if m.tool_calls %}{% if m.thinking %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}"
    "{% endif %}{% set f = m.tool_calls[0].function %}"
    "{{ '<|start|>assistant to=functions.' + f.name + '<|channel|>commentary json' }}"
    "{{ '<|message|>' + (f.arguments | tojson) + '<|call|>' }}{% else %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}{% endif %}"
)


def _cohere(name: str, content: str = "%s") -> str:
    return f"<|START_OF_TURN_TOKEN|><|{name}_TOKEN|>{content}<|END_OF_TURN_TOKEN|>"


MARKED: dict[str, Family] = {
    "mistral-nemo": Family(
        _mistral(
            calls(
                NINE + '{{ \'{"name": "\' + f.name + \'", "arguments": \' + (a | tojson) }}'
                "{{ ', \"id\": \"' + c.id + '\"}' }}",
                start="[TOOL_CALLS][",
                separator=", ",
                end="]",
            )
        ),
        MISTRAL,
        (
            Sample(f"[TOOL_CALLS][{_JSON}]", calls=(ROME,)),
            Sample(f'[TOOL_CALLS][{_JSON[:-1]}, "id": "abcdefgh1"}}]', calls=(ROME,)),
        ),
    ),
    "mistral-small": Family(
        _mistral(
            calls(
                NINE + "{{ '[TOOL_CALLS]' + f.name + '[CALL_ID]' + c.id }}"
                "{{ '[ARGS]' + (a | tojson) }}"
            )
        ),
        (*MISTRAL, "[CALL_ID]", "[ARGS]"),
        (
            Sample(
                f"[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{_ARGUMENTS}", calls=(ROME,)
            ),
        ),
    ),
    "devstral": Family(
        _mistral(calls(_V11)),
        (*MISTRAL, "[ARGS]"),
        (
            Sample(
                f"[TOOL_CALLS]get_weather[ARGS]{_ARGUMENTS}[TOOL_CALLS]now[ARGS]{{}}",
                calls=(ROME, NOW),
            ),
        ),
    ),
    "magistral": Family(
        _mistral(
            calls(_V11),
            "{% if m.content is not string and m.content %}{% for part in m.content %}"
            "{{ '[THINK]' + part.thinking + '[/THINK]' if part.type == 'thinking' "
            "else part.text }}{% endfor %}{% set m = {'tool_calls': m.tool_calls} %}"
            "{% endif %}",
        ),
        (*MISTRAL, "[ARGS]", "[THINK]", "[/THINK]"),
        (Sample("[THINK]Hm.[/THINK]Hello!", "Hello!", "Hm."),),
    ),
    "deepseek-v3.1": Family(
        deepseek(
            calls(
                "{{ '<｜tool▁call▁begin｜>' + f.name + '<｜tool▁sep｜>' + (a | tojson) }}"
                "{{ '<｜tool▁call▁end｜>' }}",
                start="<｜tool▁calls▁begin｜>",
                end="<｜tool▁calls▁end｜>",
            )
        ),
        DEEPSEEK + DEEPSEEK_CALLS + ("<think>", "</think>"),
        (
            Sample(
                "Hm.</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
                f"{_ARGUMENTS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                reasoning="Hm.",
                calls=(ROME,),
                is_thinking=True,
            ),
        ),
    ),
    "r1-distill": Family(
        chat(
            text("<｜Assistant｜>") + CONTENT + text("<｜end▁of▁sentence｜>"),
            system="%s",
            user="<｜User｜>%s",
            tool="%s",
            prompt="<｜Assistant｜>",
            tail="{{ '<think>\n' }}",
            tell="",
        ),
        DEEPSEEK,
        (Sample("Hm.\n</think>\n\nHello!", "Hello!", "Hm.", is_thinking=True),),
        "plain",
    ),
    "kimi-k2": Family(
        chat(
            text("<|im_assistant|>assistant<|im_middle|>")
            + CONTENT
            + calls(
                _KIMI_CALL,
                start="<|tool_calls_section_begin|>",
                end="<|tool_calls_section_end|>",
            )
            + text("<|im_end|>"),
            system="<|im_system|>system<|im_middle|>%s<|im_end|>",
            user="<|im_user|>user<|im_middle|>%s<|im_end|>",
            tool="<|im_system|>tool<|im_middle|>%s<|im_end|>",
            prompt="<|im_assistant|>assistant<|im_middle|>",
        ),
        KIMI,
        (
            Sample(
                "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
                f"<|tool_call_argument_begin|>{_ARGUMENTS}<|tool_call_end|><|tool_call_begin|>"
                "functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
                "<|tool_calls_section_end|>",
                "I look.",
                calls=(ROME, NOW),
            ),
        ),
    ),
    "command-r7b": Family(
        chat(
            text("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>")
            + "{% if m.tool_calls %}"
            + "{{ '<|START_THINKING|>' + (m.reasoning_content or '') + '<|END_THINKING|>' }}"
            + calls(
                _COMMAND_CALL,
                start="<|START_ACTION|>[\n",
                separator=",\n",
                end="\n]<|END_ACTION|>",
            )
            + "{% else %}{{ '<|START_RESPONSE|>' + m.content + '<|END_RESPONSE|>' }}{% endif %}"
            + text("<|END_OF_TURN_TOKEN|>"),
            system=_cohere("SYSTEM"),
            user=_cohere("USER"),
            tool=_cohere("SYSTEM"),
            prompt="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ),
        COHERE,
        (
            Sample(
                "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n"
                '    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
                f"{_ARGUMENTS}}}\n]<|END_ACTION|>",
                reasoning="Hm.",
                calls=(ROME,),
            ),
            Sample("<|START_RESPONSE|>Hello!<|END_RESPONSE|>", "Hello!"),
        ),
    ),
    "apertus": Family(
        chat(
            text("<|assistant_start|>")
            + "{% if m.content is mapping %}{% for block in m.content.blocks %}"
            "{% if block.type == 'thoughts' %}{{ '<|inner_prefix|>' + block.text }}"
            "{% elif block.type == 'response' %}{{ '<|inner_suffix|>' + block.text }}"
            "{% endif %}{% endfor %}{% else %}{{ m.content or '' }}{% endif %}"
            + calls(
                "{{ '{\"' + f.name + '\": ' + (a | tojson) + '}' }}",
                start="<|tools_prefix|>[",
                separator=", ",
                end="]<|tools_suffix|>",
            )
            + text("<|assistant_end|>"),
            system="<|system_start|>%s<|system_end|>",
            user="<|user_start|>%s<|user_end|>",
            tool="[%s]",
            prompt="<|assistant_start|>",
        ),
        APERTUS,
        (
            Sample(
                "<|inner_prefix|>Hm.<|inner_suffix|><|tools_prefix|>"
                f'[{{"get_weather": {_ARGUMENTS}}}]<|tools_suffix|>',
                reasoning="Hm.",
                calls=(ROME,),
            ),
        ),
    ),
    "solar": Family(
        chat(
            "{% if m.reasoning %}"
            "{{ '<|begin|>assistant<|think|>' + m.reasoning + '<|end|>' }}{% endif %}"
            "{% if m.tool_calls %}"
            + calls(_SOLAR_CALL, start="<|begin|>assistant<|tool_calls|>", end="<|calls|>")
            + "{% else %}{{ '<|begin|>assistant<|content|>' + m.content + '<|end|>' }}"
            "{% endif %}",
            system="<|begin|>system<|content|>%s<|end|>",
            user="<|begin|>user<|content|>%s<|end|>",
            tool="<|begin|>tool<|content|>%s<|end|>",
            prompt="<|begin|>assistant",
        ),
        SOLAR,
        (
            Sample(
                "<|think|>Hm.<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>abc"
                f"<|tool_call:name|>get_weather<|tool_call:args|>{_ARGUMENTS}<|tool_call:end|>",
                reasoning="Hm.",
                calls=(ROME,),
            ),
            Sample(
                "<|think|>Hm.<|end|><|begin|>assistant<|content|>Hello!<|end|>", "Hello!", "Hm."
            ),
        ),
    ),
    "gpt-oss": Family(
        chat(
            _GPT_OSS,
            system="<|start|>developer<|message|>%s<|end|>",
            user="<|start|>user<|message|>%s<|end|>",
            tool="<|start|>functions to=assistant<|channel|>commentary<|message|>%s<|end|>",
            prompt="<|start|>assistant",
        ),
        HARMONY,
        (
            Sample(
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final"
                "<|message|>Hello!",
                "Hello!",
                "Hm.",
            ),
            Sample(
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
                f" to=functions.get_weather <|constrain|>json<|message|>{_ARGUMENTS}",
                reasoning="Hm.",
                calls=(ROME,),
            ),
        ),
        "table",
    ),
}
# The same, but its template cannot write calls: the sandbox forbids what it does.
MARKED["kimi-k2.5"] = Family(
    MARKED["kimi-k2"].template.replace(
        "{% for c in m.tool_calls %}",
        "{% set ids = [] %}{% for c in m.tool_calls %}{% set _ = ids.append(c.id) %}",
    ),
    (*KIMI, "<think>", "</think>"),
    MARKED["kimi-k2"].samples,
    "table",
)
