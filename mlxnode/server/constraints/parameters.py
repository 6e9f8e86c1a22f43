"""The schema of the arguments of a function."""

import functools
import json
from collections.abc import Iterable
from typing import Any

from mlxnode.server.constraints.constraint import check_grammar, prepared_part
from mlxnode.server.constraints.document import refusal
from mlxnode.server.constraints.schemas import prepared
from mlxnode.server.constraints.trial import in_thread
from mlxnode.server.notation.tool_use import Function

_NO_PARAMETERS = {"properties": {}, "additionalProperties": False}


def prepared_parameters(function: Function, *, closed: bool = True) -> dict[str, Any]:
    """The schema of the objects that are arguments of ``function``; see ``prepared``.

    A function without parameters has no arguments.

    Raises:
        InvalidRequest: naming the parameters of the function.
    """
    schema = {"type": "object", **(function.parameters or _NO_PARAMETERS)}
    if isinstance(schema["type"], list) and "object" in schema["type"]:
        schema["type"] = "object"
    if schema["type"] not in ("object", None):
        raise refusal(function.param, 'its type must be "object"')
    schema["type"] = "object"
    return prepared(schema, function.param, strict=function.is_strict, closed=closed)


async def check_parameters(functions: Iterable[Function], *, closed: bool = True) -> None:
    """Compile the parameters of each function alone, to find the one that is refused.

    Raises:
        InvalidRequest: naming the parameters of the first such function.
    """
    for function in functions:
        grammar = await in_thread(functools.partial(_grammar, function, closed=closed))
        await check_grammar(grammar, function.param)


def _grammar(function: Function, *, closed: bool) -> str:
    part = prepared_part(prepared_parameters(function, closed=closed))
    return json.dumps({"grammars": [part]})
