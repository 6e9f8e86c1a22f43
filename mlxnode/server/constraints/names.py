"""The names of properties that a schema knows, over everything that describes one object."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlxnode.server.constraints.document import Node
from mlxnode.server.constraints.keywords import Core, Keywords

_MAX_LEVELS = 80  # of conjuncts and choices within each other, through references


@dataclass(frozen=True)
class Names:
    """What is known of the properties of one object, or of the items of one array.

    ``described`` are the names with a schema. ``lists``: a ``properties`` says which names
    there are. ``is_open``: others are allowed, or it cannot be told which. ``has_rest``: one
    schema describes all names that are not listed. ``is_forced``: others are not allowed,
    whatever the configuration says. ``is_deep``: nothing inside the value may be closed.
    """

    names: tuple[str, ...] = ()
    described: frozenset[str] = frozenset()
    lists: bool = False
    is_open: bool = False
    has_rest: bool = False
    has_items: bool = False
    is_forced: bool = False
    is_deep: bool = False

    def says_more_than(self, other: "Names") -> bool:
        """True if this has a name that ``other`` does not have, or is open."""
        has_more = not set(self.names) <= set(other.names)
        return has_more or self.is_open or (self.lists and not other.lists)

    @classmethod
    def of_own(cls, own: Mapping[str, Any], *, is_alone: bool = False) -> "Names":
        """What the keywords of one node say; ``is_alone``: nothing else describes the value."""
        properties: Mapping[str, Any] = own.get("properties", {})
        rest, has_patterns = own.get("additionalProperties"), "patternProperties" in own
        return cls(
            names=tuple(dict.fromkeys((*properties, *own.get("required", ())))),
            described=frozenset(
                name for name, schema in properties.items() if not isinstance(schema, bool)
            ),
            lists="properties" in own,
            is_open=rest not in (None, False)
            or own.get("unevaluatedProperties") is True
            or (has_patterns and not is_alone),
            has_rest=isinstance(rest, Mapping) or has_patterns,
            has_items="items" in own or "prefixItems" in own,
            is_forced=own.get("unevaluatedProperties") is False,
        )


NO_NAMES = Names()
_UNKNOWN = Names(is_open=True, has_rest=True, has_items=True)


def union(parts: Iterable[Names]) -> Names:
    """What all of ``parts`` say together."""
    parts = [part for part in parts if part != NO_NAMES]
    if len(parts) < 2:
        return parts[0] if parts else NO_NAMES
    return Names(
        names=tuple(dict.fromkeys(name for part in parts for name in part.names)),
        described=frozenset[str]().union(*(part.described for part in parts)),
        **{flag: any(getattr(part, flag) for part in parts) for flag in _FLAGS},
    )


_FLAGS = ("lists", "is_open", "has_rest", "has_items", "is_forced", "is_deep")


class NamesOfNodes:
    """Finds the names of nodes, each once."""

    def __init__(self, keywords: Keywords):
        self._keywords = keywords
        self._known: dict[int, Names] = {}
        self._level = 0

    def of(self, node: Node) -> Names:
        """The names that ``node`` knows, its conjuncts and choices included."""
        if isinstance(node := self._keywords.followed(node), bool):
            return NO_NAMES
        if id(node) in self._known:
            return self._known[id(node)]
        if self._level > _MAX_LEVELS:
            return _UNKNOWN
        self._known[id(node)] = NO_NAMES  # for a schema that contains itself
        self._level += 1
        self._known[id(node)] = self._of_core(self._keywords.core(node))
        self._level -= 1
        return self._known[id(node)]

    def of_choice(self, choice: list[Node]) -> Names:
        """The names that the schemas of a choice know."""
        return union([self.of(option) for option in choice])

    def _of_core(self, core: Core) -> Names:
        parts = [self.of(node) for node in core.before]
        parts.append(Names.of_own(core.own))
        parts += [self.of(node) for node in core.after]
        return union(parts + [self.of_choice(choice) for choice in core.choices])
