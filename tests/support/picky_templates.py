"""Chat templates that take few conversations, each in the style of a family.

They raise, or lose a part without a word, where a conversation has not the form they want.
"""

_RAISE = "{{ raise_exception('%s') }}"
_TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
_START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{{ '\n' }}{% endfor %}"
_JSON_CALL = (
    "{{ '<tool_call>\n' }}"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "{{ '\n</tool_call>' }}"
)
_CALLS = "{% for c in m.tool_calls or [] %}" + _JSON_CALL + "{% endfor %}"


def _chatml(turn: str, *, head: str = _TOOLS) -> str:
    return f"{head}{{% for m in messages %}}{turn}{{% endfor %}}{_START}"


def _mistral(call: str, *, head: str = "") -> str:
    """Turns of users and answers alternate; calls and results do not count."""
    return (
        f"{head}{{% set ns = namespace(i=0) %}}{{% set users = messages"
        " | selectattr('role', 'equalto', 'user') | list %}"
        "{% set first = 1 if messages[0].role == 'system' else 0 %}"
        "{% for m in messages[first:] %}"
        "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
        "{% if (m.role == 'user') != (ns.i % 2 == 0) %}"
        + _RAISE
        % "turns must alternate"
        + "{% endif %}{% set ns.i = ns.i + 1 %}{% endif %}"
        "{% if m.role == 'user' %}"
        "{% if tools and m == users[-1] %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}"
        "[INST]{% if loop.last and first %}{{ messages[0].content + '\n\n' }}{% endif %}"
        "{{ m.content }}[/INST]"
        "{% elif m.tool_calls %}[TOOL_CALLS][{% for c in m.tool_calls %}"
        + call
        + "{% if not loop.last %}, {% endif %}{% endfor %}]</s>"
        "{% elif m.role == 'assistant' %}"
        "{% if not m.content %}" + _RAISE % "an answer without content" + "{% endif %}"
        "{{ m.content }}</s>"
        "{% elif m.role == 'tool' %}"
        "{% if m.tool_call_id | length != 9 %}" + _RAISE % "nine letters" + "{% endif %}"
        "[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
        "{% else %}" + _RAISE % "no such role" + "{% endif %}{% endfor %}"
    )


_NINE = (
    "{% if c.id | length != 9 %}" + _RAISE % "nine letters" + "{% endif %}"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, '
    '"id": "{{ c.id }}"}'
)
PICKY = {
    # No role of the system, strict turns.
    "gemma": (
        "{% if messages[0].role == 'system' %}" + _RAISE % "no system" + "{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        + _RAISE
        % "turns must alternate"
        + "{% endif %}<start_of_turn>"
        "{{ ('model' if m.role == 'assistant' else m.role) + '\n' }}{{ m.content | trim }}"
        "{{ '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    # The text of the system is lost without a word.
    "no_system": _chatml("{% if m.role in ('user', 'assistant') %}" + _TURN + "{% endif %}"),
    # The text of the system is lost behind the head; no role of the developer.
    "head_only": _chatml(
        "{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' + m.content }}"
        + _CALLS
        + "{{ '<|im_end|>\n' }}{% elif m.role in ('user', 'tool') or (m.role == 'system' and"
        " loop.first) %}" + _TURN + "{% endif %}"
    ),
    "head_or_error": _chatml(
        "{% if m.role == 'system' and not loop.first %}"
        + _RAISE % "system first"
        + "{% elif m.role not in ('system', 'user', 'assistant', 'tool') %}"
        + _RAISE % "no such role"
        + "{% endif %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
        + _CALLS
        + "{{ '<|im_end|>\n' }}"
    ),
    "mistral": _mistral(_NINE),
    # One call in a message, and the result of a call in the message before it.
    "llama": _chatml(
        "{{ '<|im_start|>' + m.role + '\n' }}{% if m.tool_calls %}"
        "{% if m.tool_calls | length != 1 %}"
        + _RAISE % "one call"
        + "{% endif %}"
        + _CALLS
        + "{% elif m.role == 'tool' and messages[loop.index0 - 1].role != 'assistant' %}"
        + _RAISE % "no call before"
        + "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}"
    ),
    # Arguments are JSON in a string, calls stand where there is no content.
    "text_arguments": _chatml(
        "{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is none %}"
        '{% for c in m.tool_calls %}{{ \'<tool_call>\n{"name": "\' + c.function.name'
        " + '\", \"arguments\": ' + c.function.arguments + '}\n</tool_call>' }}{% endfor %}"
        "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}"
    ),
    # Contents are lists of parts; the tools are gone through even if there are none.
    "parts": _chatml(
        "{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}{{ part['text'] }}"
        "{% endfor %}" + _CALLS + "{{ '<|im_end|>\n' }}",
        head="{% for tool in tools %}{{ tool.function.name + tool.function.description }}"
        "{{ tool.function.parameters | tojson }}{{ '\n' }}{% endfor %}",
    ),
    # No place for calls; a list is changed; a variable has to be set.
    "no_calls": _chatml(
        _TURN + "{% set _ = ns.seen.append(m.role) %}",
        head="{% set ns = namespace(seen=[]) %}{{ datetime + '\n' }}" + _TOOLS,
    ),
}
