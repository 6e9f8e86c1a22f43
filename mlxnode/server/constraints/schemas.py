"""From a client's JSON schema to one that llguidance enforces exactly."""

from collections.abc import Mapping
from typing import Any

from mlxnode.server.constraints.closing import Writer
from mlxnode.server.constraints.document import Document


def prepared(
    schema: Mapping[str, Any], param: str, *, strict: bool, closed: bool = True
) -> dict[str, Any]:
    """``schema`` in the keywords that llguidance enforces exactly.

    Without ``strict``, keywords that cannot be enforced are left out. With ``closed``, objects
    whose properties are listed have no others, unless the schema speaks of them.

    All references are ``#/$defs/d…`` without keywords beside them.

    Raises:
        InvalidRequest: naming ``param`` and the keyword: the schema is malformed, too large or
            too deep, or a keyword cannot be enforced.
    """
    return Writer(Document(schema, param, strict=strict), closed=closed).write()
