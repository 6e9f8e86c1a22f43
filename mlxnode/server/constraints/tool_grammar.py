"""The grammar of an answer that calls tools."""

import functools
import json

from mlxnode.server.constraints.constraint import (
    Constraint,
    check_grammar,
    lark_part,
    prepared_part,
)
from mlxnode.server.constraints.document import too_large
from mlxnode.server.constraints.parameters import check_parameters, prepared_parameters
from mlxnode.server.constraints.trial import in_thread
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.tool_use import ToolUse

MAX_TOOLS_BYTES = 131_072  # of the schemas of all functions of a request


async def answer_grammar(
    constraint: Constraint | None, tools: ToolUse | None, *, closed: bool = True
) -> str | None:
    """The grammar of an answer that may call ``tools``; None if any text is allowed.

    ``closed``: see ``prepared``.

    Raises:
        InvalidRequest: a grammar cannot be compiled or followed.
    """
    grammar = None
    if constraint is not None:
        grammar = await constraint.checked_grammar(closed=closed)
    if tools is not None and (tools.is_enforced or grammar is not None):
        grammar = await in_thread(
            functools.partial(tool_grammar, tools, grammar, closed=closed)
        )
        try:
            await check_grammar(grammar, "tools")
        except InvalidRequest:
            await check_parameters(tools.functions, closed=closed)
            raise
    return grammar


def tool_grammar(tools: ToolUse, answer: str | None = None, *, closed: bool = True) -> str:
    """The grammar of an answer that calls ``tools``, or is free not to call them.

    The text beside the calls follows the grammar ``answer``; without it, any text is allowed.
    Check the result with ``check_grammar(grammar, "tools")``.

    Raises:
        InvalidRequest: the parameters of a function are no object, too large or too deep.
    """
    start, end = json.dumps("<tool_call>"), json.dumps("</tool_call>")
    heads, parts = [], []
    for i, function in enumerate(tools.functions):
        name = json.dumps(function.name)
        head, tail = json.dumps(f'{{"name": {name}, "arguments": '), json.dumps("}")
        heads.append(f"{head} @arguments_{i} {tail}")
        parts.append(
            {
                "name": f"arguments_{i}",
                **prepared_part(prepared_parameters(function, closed=closed)),
            }
        )
    after_start = rf"/\n?/ ({' | '.join(heads)}) /\n?/ {end}"
    calls = r"call (/\n?/ call)*" if tools.is_parallel else "call"
    if tools.must_call:
        lark = f"start: {calls}\ncall: {start} {after_start}"
    elif answer is not None:
        lark = f"start: {calls} | @answer\ncall: {start} {after_start}"
        parts += [{"name": "answer", **part} for part in json.loads(answer)["grammars"]]
    else:
        # A lazy lexeme takes the text up to the first start of a call.
        answer_or_call = "call* TEXT" if tools.is_parallel else "TEXT | call"
        lark = "\n".join(
            [
                f"start: {answer_or_call}",
                f"call: text_and_start {after_start}",
                f"text_and_start[lazy]: TEXT {start}",
                r"TEXT: /(.|\n)*/",
            ]
        )
    grammar = json.dumps({"grammars": [lark_part(lark), *parts]})
    if len(grammar) > MAX_TOOLS_BYTES:
        raise too_large("tools", len(grammar), MAX_TOOLS_BYTES)
    return grammar
