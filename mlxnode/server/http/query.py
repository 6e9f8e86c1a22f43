"""Reads the query of a URL, and names what in it changes nothing."""

import re
from typing import TypeVar

import msgspec
from sanic import Request

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.body import name_ignored

Query = TypeVar("Query", bound=msgspec.Struct)
_PLACE = re.compile(r" - at `\$\.(\w+)`$")


def read_query(request: Request, schema: type[Query]) -> Query:
    """The query of ``request``; of a parameter that is repeated, the first value counts.

    Raises:
        InvalidRequest: naming the parameter.
    """
    arguments = request.get_args(keep_blank_values=True)
    sent = {name: values[0] for name, values in arguments.items()}
    known = schema.__struct_encode_fields__
    if others := [name for name in sent if name not in known]:
        name_ignored(request, others)
    try:
        return msgspec.convert(sent, schema, strict=False)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        param = place[1] if place else None
        reason = _PLACE.sub("", str(error)).replace("`", "")
        raise InvalidRequest(
            f"Invalid '{param}': {reason}.", param=param, code="invalid_value"
        ) from error
