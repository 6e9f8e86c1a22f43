"""Several nodes that describe one value, as few nodes as possible."""

from collections.abc import Callable, Mapping
from typing import Any

from mlxnode.server.constraints.document import Node

_OBJECTS = {"properties", "required", "additionalProperties", "unevaluatedProperties"}
_OPEN = {"additionalProperties", "patternProperties"}


Combine = Callable[[Node, Node], Node]


def merged(nodes: list[dict[str, Any]], combine: Combine) -> list[dict[str, Any]]:
    """``nodes``, each with keywords of its own, as one node and what does not fit into it.

    ``combine`` gives the schema of the values that are valid under two schemas.
    """
    if len(nodes) < 2 or not _can_merge(nodes):
        return nodes
    whole: dict[str, Any] = {}
    rest: list[dict[str, Any]] = []
    for node in nodes:
        for key, value in node.items():
            if key not in whole:
                whole[key] = value
            elif (both := _both(key, whole[key], value, combine)) is not None:
                whole[key] = both
            else:
                rest.append({key: value})
    return [whole, *rest]


def _can_merge(nodes: list[dict[str, Any]]) -> bool:
    """False if a keyword's meaning depends on the node that it stands in."""
    describing = [node for node in nodes if node.keys() & _OBJECTS]
    closing = [node for node in nodes if _is_meaningful(node)]
    if closing and len(describing) > 1:
        return False
    tuples = [node for node in nodes if "items" in node or "prefixItems" in node]
    return len(tuples) < 2 or not any("prefixItems" in node for node in tuples)


def _is_meaningful(node: Mapping[str, Any]) -> bool:
    return any(key in node and node[key] is not True for key in _OPEN)


def _both(key: str, first: Any, second: Any, combine: Combine) -> Any:
    """A value of ``key`` that says the same as the two together; None if there is none."""
    if first == second and type(first) is type(second):
        return first
    if key == "properties":
        both = dict(first)
        for name, schema in second.items():
            both[name] = combine(first[name], schema) if name in first else schema
        return both
    if key == "items":
        return combine(first, second)
    if key == "required":
        return list(dict.fromkeys((*first, *second)))
    if key == "pattern":
        return [*first, *second]
    if key.startswith(("min", "exclusiveMin")):
        return max(first, second)
    if key.startswith(("max", "exclusiveMax")):
        return min(first, second)
    if key == "type":
        return _common_types(first, second)
    return None


def _common_types(first: str | list[str], second: str | list[str]) -> str | list[str] | None:
    others = _expanded(second)
    common = [kind for kind in _expanded(first) if kind in others]
    if "number" in common:
        common.remove("integer")
    return (common[0] if len(common) == 1 else common) or None


def _expanded(kinds: str | list[str]) -> list[str]:
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    return [*names, "integer"] if "number" in names and "integer" not in names else names
