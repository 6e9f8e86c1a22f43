"""The grammar of an answer in channels (gpt-oss).

The prompt ends with ``<|start|>assistant``
(https://github.com/openai/harmony/blob/main/docs/format.md).
"""

import json

from mlxnode.server.constraints.constraint import prepared_part
from mlxnode.server.constraints.lark import ANY, LarkGrammar, one_of, sequence
from mlxnode.server.constraints.markers import Plain
from mlxnode.server.constraints.parameters import prepared_parameters
from mlxnode.server.notation.tool_use import Function, ToolUse

_NEXT = "<|end|><|start|>assistant"  # from one message to the next


def harmony_rules(
    grammar: LarkGrammar, tools: ToolUse | None, form: str | None, *, closed: bool = True
) -> str:
    """The expression of an answer: reasoning, then a call of ``tools`` or a final message.

    The final message follows the grammar ``form``; without it, it is any text. A call ends the
    answer.
    """
    before = f"({grammar.rule('analysis', _message(grammar, 'analysis'))})?"
    calls = [] if tools is None else [_call(grammar, one, closed) for one in tools.functions]
    if tools is not None and tools.must_call:
        return sequence([before, one_of(calls)])
    if form is None:
        preamble = grammar.rule("preamble", _message(grammar, "commentary"))
        before = f"({one_of(['analysis', preamble])})*"
        text = f"{grammar.rule('FINAL', '/(?s:.+)/')}?"
    else:
        [part] = json.loads(form)["grammars"]
        text = grammar.part(part)
    final = sequence([grammar.literal("<|channel|>final<|message|>"), text])
    return sequence([before, one_of([*calls, final])])


def _message(grammar: LarkGrammar, channel: str) -> str:
    """A message before the last one."""
    start = grammar.literal(f"<|channel|>{channel}<|message|>")
    return sequence([start, grammar.text_until("message", ANY, _NEXT)])


def _call(grammar: LarkGrammar, function: Function, closed: bool) -> str:
    head = grammar.literal(
        "<|channel|>commentary to=functions.",
        Plain(function.name),
        " <|constrain|>json<|message|>",
    )
    schema = prepared_parameters(function, closed=closed)
    return sequence([head, grammar.part(prepared_part(schema))])
