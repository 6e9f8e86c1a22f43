"""The schema of the arguments of a function."""

from typing import Any

from mlxnode.server.constraints.document import refusal
from mlxnode.server.constraints.schemas import prepared
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
