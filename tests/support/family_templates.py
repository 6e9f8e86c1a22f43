"""Chat templates in the style of five families: what the history keeps of a prompt.

They are written for the tests; the markers but ``<think>`` are bytes to the byte tokenizer.
"""

_CALLS = (
    "{# tool_call.name #}"  # by which mlx-lm knows the syntax
    "{% for call in m.tool_calls or [] %}{{ '<tool_call>\n' }}"
    "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}"
    "{{ '\n</tool_call>' }}{% endfor %}"
)
_LAST_QUESTION = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
)
_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{{ '\n' }}{% endfor %}"


def _chatml(thought: str, tail: str, *, start: str = "") -> str:
    return (
        f"{_LAST_QUESTION}{start}{{{{ '<|im_start|>system\n' }}}}"
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
        f"{_TOOLS}{{{{ '<|im_end|>\n' }}}}"
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
        f"{thought}{{{{ m.content }}}}{_CALLS}{{{{ '<|im_end|>\n' }}}}"
        "{% elif m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{{ m.content }}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}"
        f"{{{{ '<|im_start|>assistant\n{tail}' }}}}{{% endif %}}"
    )


_THOUGHT = "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}"
TEMPLATES = {
    # The prompt opens the thoughts, and the history has none before the last question.
    "qwen3_5": _chatml(
        "{% if loop.index0 > ns.last %}" + _THOUGHT + "{% endif %}", "<think>\n"
    ),
    # The same, but the history keeps empty thoughts.
    "nemotron_h": _chatml(
        "{% if loop.index0 > ns.last %}"
        + _THOUGHT
        + "{% else %}{{ '<think></think>' }}{% endif %}",
        "<think>\n",
    ),
    # The model opens its thoughts itself, and only the last answer keeps them.
    "lfm2": _chatml(
        "{% if loop.last and m.reasoning_content %}" + _THOUGHT + "{% endif %}",
        "",
        start="{{ '<|startoftext|>' }}",
    ),
    # No role of the system: its text is in the first question. No tools.
    "gemma3_text": (
        "{{ '<bos>' }}{% set head = '' %}{% set rest = messages %}"
        "{% if messages[0].role == 'system' %}{% set head = messages[0].content + '\n\n' %}"
        "{% set rest = messages[1:] %}{% endif %}"
        "{% for m in rest %}{{ '<start_of_turn>' }}"
        "{{ 'model' if m.role == 'assistant' else m.role }}{{ '\n' }}"
        "{% if loop.first %}{{ head }}{% endif %}{{ m.content | trim }}"
        "{{ '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    # Channels: the history has the final one, and the calls.
    "gpt_oss": (
        "{{ '<|start|>system<|message|>You are a model.<|end|><|start|>developer<|message|>' }}"
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
        f"{_TOOLS}{{{{ '<|end|>' }}}}"
        "{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}"
        "{% elif m.role == 'tool' %}"
        "{{ '<|start|>functions<|channel|>commentary<|message|>' + m.content + '<|end|>' }}"
        "{% elif m.role == 'assistant' and m.tool_calls %}"
        "{{ '<|start|>assistant to=functions.' + m.tool_calls[0].function.name }}"
        "{{ '<|channel|>commentary json<|message|>' }}"
        "{{ m.tool_calls[0].function.arguments | tojson }}{{ '<|call|>' }}"
        "{% elif m.role == 'assistant' %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    ),
}
