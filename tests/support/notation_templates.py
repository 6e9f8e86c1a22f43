"""Chat templates in the style of many families, written for the tests, with outputs.

``FAMILIES`` has for each family a template, the added tokens of its vocabulary, and outputs
of its model for ``TOOLS``, with what must come of them.
"""

from support.notation_marked import MARKED
from support.notation_pieces import (
    CONTENT,
    JSON,
    NEW_LINE,
    NOW,
    OPEN,
    ROME,
    TELL,
    THOUGHT,
    Family,
    Sample,
    around,
    calls,
    chat,
    chatml,
    text,
    xml,
)
from support.notation_tagged import TAGGED

CHATML = ("<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
TOOL_CALL = ("<tool_call>", "</tool_call>")
LLAMA = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")
SEED = ("<seed:bos>", "<seed:eos>", "<seed:tool_call>", "</seed:tool_call>")
SEED += ("<seed:think>", "</seed:think>")

_ARGUMENTS = '{"city": "Rome", "days": 2}'
_JSON = f'{{"name": "get_weather", "arguments": {_ARGUMENTS}}}'
_HERMES = f"<tool_call>\n{_JSON}\n</tool_call>"
_HERMES_NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
_CODER = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>"
)
_CODER_NOW = "<tool_call>\n<function=now>\n</function>\n</tool_call>"

_HERMES_CALLS = calls(
    around(JSON, "<tool_call>\n%s\n</tool_call>"), before=NEW_LINE, separator="\n"
)
_CODER_CALLS = calls(
    around(xml("\n", "\n"), "<tool_call>\n%s\n</tool_call>"), before=NEW_LINE, separator="\n"
)


def _llama(calls: str) -> str:
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    return chat(
        text(header.format("assistant")) + calls + text("<|eot_id|>"),
        system=header.format("system") + "%s<|eot_id|>",
        user=header.format("user") + "%s<|eot_id|>",
        tool=header.format("ipython") + "%s<|eot_id|>",
        prompt=header.format("assistant"),
    )


def _turns(answer: str, pattern: str, prompt: str, *, tail: str = "", tell: str = TELL) -> str:
    """Turns that differ in the name of their role, which replaces ``ROLE`` in ``pattern``."""
    system, user, tool = (pattern.replace("ROLE", name) for name in ("system", "user", "tool"))
    return chat(
        answer, system=system, user=user, tool=tool, prompt=prompt, tail=tail, tell=tell
    )


FAMILIES: dict[str, Family] = {
    "qwen2.5": Family(
        chatml(_HERMES_CALLS),
        CHATML + TOOL_CALL,
        (
            Sample(f"Let me see.\n{_HERMES}", "Let me see.", calls=(ROME,)),
            Sample(f"{_HERMES}\n{_HERMES_NOW}", calls=(ROME, NOW)),
            Sample("Hello!", "Hello!"),
        ),
    ),
    "qwen3": Family(
        chatml(_HERMES_CALLS, thought=THOUGHT),
        CHATML + TOOL_CALL + THINK,
        (Sample(f"<think>\nHm.\n</think>\n\n{_HERMES}", reasoning="Hm.", calls=(ROME,)),),
    ),
    "qwen3-coder": Family(
        chatml(_CODER_CALLS),
        CHATML + TOOL_CALL,
        (Sample(f"I look.\n{_CODER}\n{_CODER_NOW}", "I look.", calls=(ROME, NOW)),),
    ),
    "qwen3.5": Family(
        chatml(_CODER_CALLS, thought=THOUGHT, tail=OPEN),
        CHATML + TOOL_CALL + THINK,
        (
            Sample(
                f"Hm.\n</think>\n\n{_CODER}", reasoning="Hm.", calls=(ROME,), is_thinking=True
            ),
        ),
    ),
    "step3.5": Family(
        chatml(
            calls(around(xml("\n", "\n"), "<tool_call>\n%s\n</tool_call>")),
            thought="{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n' }}",
            tail=OPEN,
        ),
        CHATML + TOOL_CALL + THINK,
        (Sample(f"<think>Hm.</think>{_CODER}{_CODER_NOW}", "", "Hm.", (ROME, NOW)),),
    ),
    "seed-oss": Family(
        _turns(
            text("<seed:bos>assistant")
            + "{% if m.reasoning_content %}"
            + "{{ '\n<seed:think>' + m.reasoning_content + '</seed:think>' }}{% endif %}"
            + "{{ '\n' + m.content if m.content }}"
            + calls(
                around(xml("", ""), "<seed:tool_call>\n%s\n</seed:tool_call>"),
                start="\n",
                separator="\n",
            )
            + text("<seed:eos>"),
            "<seed:bos>ROLE\n%s<seed:eos>",
            "<seed:bos>assistant\n",
        ),
        SEED,
        (
            Sample(
                "<seed:think>Hm.</seed:think>\n<seed:tool_call>\n<function=get_weather>\n"
                "<parameter=city>Rome</parameter>\n<parameter=days>2</parameter>\n"
                "</function>\n</seed:tool_call>",
                reasoning="Hm.",
                calls=(ROME,),
            ),
        ),
    ),
    "hermes": Family(
        chatml(
            calls(around(JSON, "<tool_call>\n%s\n</tool_call>"), separator="\n").replace(
                "{% if m.tool_calls %}", "{% if m.tool_calls is defined and m.tool_calls %}"
            )
        ),
        CHATML,
        (Sample(_HERMES, calls=(ROME,)),),
    ),
    "llama3": Family(
        _llama(
            "{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}"
            "{{ raise_exception('only single tool-calls at once') }}{% endif %}"
            "{% set f = m.tool_calls[0].function %}"
            '{{ \'{"name": "\' + f.name + \'", "parameters": \' + (f.arguments | tojson) }}}'
            "{% else %}{{ m.content }}{% endif %}"
        ),
        LLAMA,
        (
            Sample(f'{{"name": "get_weather", "parameters": {_ARGUMENTS}}}', calls=(ROME,)),
            Sample(
                f'<|python_tag|>{{"name": "get_weather", "parameters": {_ARGUMENTS}}}',
                calls=(ROME,),
            ),
            Sample('The {"name": "x"} is no call.', 'The {"name": "x"} is no call.'),
        ),
    ),
    "granite4": Family(
        _turns(
            text("<|start_of_role|>assistant<|end_of_role|>")
            + CONTENT
            + _HERMES_CALLS
            + text("<|end_of_text|>\n"),
            "<|start_of_role|>ROLE<|end_of_role|>%s<|end_of_text|>\n",
            "<|start_of_role|>assistant<|end_of_role|>",
        ),
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", *TOOL_CALL),
        (Sample(_HERMES, calls=(ROME,)),),
    ),
    "granite3": Family(
        _turns(
            text("<|start_of_role|>assistant<|end_of_role|>")
            + "{{ m.content }}"
            + text("<|end_of_text|>\n"),
            "<|start_of_role|>ROLE<|end_of_role|>%s<|end_of_text|>\n",
            "<|start_of_role|>assistant<|end_of_role|>",
            tell="{% if tools %}Answer with <|tool_call|> and a JSON list of tools."
            + TELL
            + "{% endif %}",
        ),
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>"),
        (Sample(f"<|tool_call|>[{_JSON}]", calls=(ROME,)),),
        "table",
    ),
    "nemotron-v2": Family(
        _turns(
            text("<SPECIAL_11>Assistant\n")
            + CONTENT
            + calls(
                JSON, before=NEW_LINE, start="<TOOLCALL>[", separator=", ", end="]</TOOLCALL>"
            )
            + text("\n<SPECIAL_12>\n"),
            "<SPECIAL_11>ROLE\n%s\n",
            "<SPECIAL_11>Assistant\n",
            tail="{{ '<think>\n' }}",
        ),
        ("<SPECIAL_11>", "<SPECIAL_12>"),
        (
            Sample(
                f"Hm.\n</think>\n\n<TOOLCALL>[{_JSON}]</TOOLCALL>",
                reasoning="Hm.",
                calls=(ROME,),
                is_thinking=True,
            ),
        ),
    ),
    "apriel": Family(
        _turns(
            text("<|assistant|>\n")
            + CONTENT
            + calls(JSON, start="\n<tool_calls>[", separator=", ", end="]</tool_calls>")
            + text("\n<|end|>\n"),
            "<|ROLE|>\n%s\n<|end|>\n",
            "<|assistant|>\n",
        ),
        ("<|end|>", "<|assistant|>", "<|user|>", "<|system|>", "<|tool|>"),
        (Sample(f"<tool_calls>[{_JSON}]</tool_calls>", calls=(ROME,)),),
    ),
}
FAMILIES |= MARKED | TAGGED
