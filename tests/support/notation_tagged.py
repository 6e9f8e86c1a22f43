"""Chat templates of families that write the arguments of a call one by one, with outputs."""

from support.notation_pieces import (
    CONTENT,
    NOW,
    ROME,
    Family,
    Sample,
    around,
    calls,
    chat,
    chatml,
    each,
    text,
)

GLM = ("<|assistant|>", "<|user|>", "<|system|>", "<|observation|>", "<think>", "</think>")
GLM += ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")
MINIMAX = ("]~b]", "[e~[", "<minimax:tool_call>", "</minimax:tool_call>", "<think>", "</think>")
GEMMA = ("<bos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|tool>", "<tool|>")
GEMMA += ("<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>')
LFM = ("<|im_start|>", "<|im_end|>", "<|tool_call_start|>", "<|tool_call_end|>")


def deepseek(calls: str) -> str:
    thought = "{{ '<think>' + (m.reasoning_content or '') + '</think>' }}"
    return chat(
        text("<｜Assistant｜>") + thought + CONTENT + calls + text("<｜end▁of▁sentence｜>"),
        system="%s",
        user="<｜User｜>%s",
        tool="<｜tool▁output▁begin｜>%s<｜tool▁output▁end｜>",
        prompt="<｜Assistant｜>",
        tail="{{ '<think>' if enable_thinking or thinking else '<think></think>' }}",
    )


def _glm(gap: str, thought: str) -> str:
    """``gap`` is the white space between the tags."""
    item = around("{{ k }}", f"<arg_key>%s</arg_key>{gap}") + around(
        "{{ v if v is string else v | tojson }}", f"<arg_value>%s</arg_value>{gap}"
    )
    call = around("{{ f.name }}", f"<tool_call>%s{gap}") + each(item) + text("</tool_call>")
    content = f"{{% if m.content %}}{text(gap)}{{{{ m.content }}}}{{% endif %}}"
    return chat(
        text("<|assistant|>") + thought + content + calls(call, start=gap, separator=gap),
        system="<|system|>\n%s",
        user="<|user|>\n%s",
        tool="<|observation|>\n%s",
        prompt="<|assistant|>",
    )


_MINIMAX_CALL = (
    "{{ '<invoke name=\"' + f.name + '\">\n' }}"
    + each(
        "{{ '<parameter name=\"' + k + '\">' }}{{ v if v is string else v | tojson }}"
        "{{ '</parameter>\n' }}"
    )
    + "{{ '</invoke>\n' }}"
)
_DSML_CALL = (
    "{{ '<｜DSML｜invoke name=\"' + f.name + '\">\n' }}"
    + each(
        "{{ '<｜DSML｜parameter name=\"' + k + '\" string=\"' }}"
        "{{ 'true\">' + v if v is string else 'false\">' + (v | tojson) }}"
        "{{ '</｜DSML｜parameter>\n' }}"
    )
    + "{{ '</｜DSML｜invoke>\n' }}"
)
# Gemma 4 quotes strings with a token, and has no quotes around keys.
_GEMMA_VALUE = (
    "{% macro value(v) %}{% if v is string %}{{ '<|\"|>' + v + '<|\"|>' }}"
    "{% elif v is mapping %}{{ '{' }}{% for k, x in v | dictsort %}"
    "{{ ',' if not loop.first }}{{ k }}:{{ value(x) }}{% endfor %}{{ '}' }}"
    "{% elif v is iterable %}[{% for x in v %}{{ ',' if not loop.first }}{{ value(x) }}"
    "{% endfor %}]{% else %}{{ v | tojson }}{% endif %}{% endmacro %}"
)
_GEMMA_CALL = "{{ '<|tool_call>call:' + f.name }}{{ value(a) }}{{ '<tool_call|>' }}"
_PYTHON_CALL = (
    "{{ f.name + '(' }}{% for k, v in a.items() %}{{ ', ' if not loop.first }}{{ k }}="
    '{{ "\'" + v + "\'" if v is string else v }}{% endfor %})'
)
TAGGED: dict[str, Family] = {
    "deepseek-v3.2": Family(
        deepseek(
            calls(
                _DSML_CALL,
                start="\n\n<｜DSML｜function_calls>\n",
                end="</｜DSML｜function_calls>",
            )
        ),
        (*DEEPSEEK, "<think>", "</think>", "｜DSML｜"),
        (
            Sample(
                'Hm.</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
                '<｜DSML｜parameter name="city" string="true">Rome</｜DSML｜parameter>\n'
                '<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n'
                "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
                reasoning="Hm.",
                calls=(ROME,),
                is_thinking=True,
            ),
        ),
    ),
    "glm4.6": Family(
        _glm("\n", "{{ '\n<think>' + (m.reasoning_content or '') + '</think>' }}"),
        GLM,
        (
            Sample(
                "\n<think>Hm.</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n"
                "<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>"
                "\n</tool_call>\n<tool_call>now\n</tool_call>",
                reasoning="Hm.",
                calls=(ROME, NOW),
            ),
        ),
    ),
    "glm4.7": Family(
        _glm(
            "",
            "{{ '<think>' + m.reasoning_content if m.reasoning_content }}{{ '</think>' }}",
        ),
        GLM,
        (
            Sample(
                "<think>Hm.</think><tool_call>get_weather<arg_key>city</arg_key>"
                "<arg_value>Rome</arg_value><arg_key>days</arg_key><arg_value>2</arg_value>"
                "</tool_call><tool_call>now</tool_call>",
                reasoning="Hm.",
                calls=(ROME, NOW),
            ),
        ),
    ),
    "minimax-m2": Family(
        chat(
            text("]~b]ai\n")
            + "{% if m.reasoning_content %}"
            + "{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
            + CONTENT
            + calls(
                _MINIMAX_CALL,
                start="\n<minimax:tool_call>\n",
                end="</minimax:tool_call>",
            )
            + text("[e~[\n"),
            system="]~b]system\n%s[e~[\n",
            user="]~b]user\n%s[e~[\n",
            tool="]~b]tool\n<response>%s</response>[e~[\n",
            prompt="]~b]ai\n",
            tail="{{ '<think>\n' }}",
        ),
        MINIMAX,
        (
            Sample(
                'Hm.\n</think>\n\n<minimax:tool_call>\n<invoke name="get_weather">\n'
                '<parameter name="city">Rome</parameter>\n<parameter name="days">2</parameter>'
                "\n</invoke>\n</minimax:tool_call>",
                reasoning="Hm.",
                calls=(ROME,),
                is_thinking=True,
            ),
        ),
    ),
    "gemma4": Family(
        _GEMMA_VALUE
        + chat(
            text("<|turn>model\n")
            + "{% if m.tool_calls and m.reasoning_content %}"
            + "{{ '<|channel>thought\n' + m.reasoning_content + '\n<channel|>' }}{% endif %}"
            + calls(_GEMMA_CALL)
            + CONTENT
            + "{{ '<|tool_response>' if m.tool_calls else '<turn|>\n' }}",
            system="<|turn>system\n%s<turn|>\n",
            user="<|turn>user\n%s<turn|>\n",
            tool="%s<tool_response|>",
            prompt="<|turn>model\n",
            tail="{{ '<|channel>thought\n<channel|>' if enable_thinking is false }}",
            tell="{% for t in tools or [] %}{{ '<|tool>' + (t | tojson) + '<tool|>' }}"
            "{% endfor %}",
        ),
        GEMMA,
        (
            Sample(
                "<|channel>thought\nHm.<channel|><|tool_call>call:get_weather"
                '{city:<|"|>Rome<|"|>,days:2}<tool_call|>',
                reasoning="Hm.",
                calls=(ROME,),
            ),
            Sample("<|channel>thought\nHm.<channel|>Hello!", "Hello!", "Hm."),
        ),
    ),
    "gemma3": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else m.role }}{{ '\n' }}{{ m.content | trim }}"
        "{{ '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
        (
            Sample(
                '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}'
                "\n</tool_call>",
                calls=(ROME,),
            ),
        ),
        "plain",
    ),
    "lfm2": Family(
        chatml(""),
        LFM,
        (
            Sample(
                '<|tool_call_start|>[get_weather(city="Rome", days=2)]'
                "<|tool_call_end|>Checking.",
                "Checking.",
                calls=(ROME,),
            ),
        ),
        "table",
    ),
    "lfm2.5": Family(
        chatml(
            calls(
                _PYTHON_CALL,
                start="<|tool_call_start|>[",
                separator=", ",
                end="]<|tool_call_end|>",
            ),
            thought="{% if m.thinking %}{{ '<think>' + m.thinking + '</think>' }}{% endif %}",
        ),
        (*LFM, "<think>", "</think>"),
        (
            Sample(
                "<think>Hm.</think><|tool_call_start|>[get_weather(city='Rome', days=2), now()]"
                "<|tool_call_end|>",
                reasoning="Hm.",
                calls=(ROME, NOW),
            ),
        ),
    ),
}
