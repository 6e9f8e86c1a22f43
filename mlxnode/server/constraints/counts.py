"""How many properties an object has, as far as llguidance enforces that."""

from typing import Any

from mlxnode.server.constraints.document import Document, Node


def limit_counts(document: Document, node: Node, own: dict[str, Any], is_whole: bool) -> None:
    """Leave out of ``own`` the counts of properties that cannot be enforced.

    ``is_whole``: nothing else describes the object.
    """
    if not own.keys() & {"minProperties", "maxProperties"}:
        return
    required = own.get("required", [])
    properties = own.get("properties", {})
    optional = [name for name in properties if name not in required]
    is_closed = own.get("additionalProperties") is False and "patternProperties" not in own
    least, most = own.get("minProperties", 0), own.get("maxProperties")
    if least <= len(required):
        own.pop("minProperties", None)
        least = 0
    if is_closed and is_whole and most is not None and most >= len(required) + len(optional):
        own.pop("maxProperties")
        most = None
    if least == 0 and most is None:
        return
    if not is_whole:
        _leave_out(document, node, own)
    elif is_closed and least >= len(required) + len(optional) and most is None:
        own.pop("minProperties")  # all properties, or more than there are
        if least > len(required) + len(optional):
            own["enum"] = []
        own["required"] = [*required, *optional]
    elif is_closed and optional:
        # llguidance knows "one of them", "at least one" and "at most one".
        is_one = most is None or most == len(required) + 1
        if not is_one or least > len(required) + 1:
            _leave_out(document, node, own)
    elif optional or (document.is_strict and least > max(1, len(required))):
        # A key with a free name can be repeated: two pairs are not always two properties.
        _leave_out(document, node, own)


def _leave_out(document: Document, node: Node, own: dict[str, Any]) -> None:
    reason = "minProperties can be at most 1 or the number of required properties"
    for key in ("minProperties", "maxProperties"):
        if key in own:
            document.leave_out(node, key, reason if key == "minProperties" else "")
            del own[key]
