"""One node of a schema in the few keywords that llguidance enforces exactly.

The rest of JSON Schema, in the styles of its drafts 4 to 2020-12, becomes conjuncts and
choices of such nodes, or is left out. Schemas inside a node stay as they are, until their
turn comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlxnode.server.constraints import scalars
from mlxnode.server.constraints.conditions import complement, exclusive, if_branches
from mlxnode.server.constraints.document import Document, Node
from mlxnode.server.constraints.maps import object_keywords
from mlxnode.server.constraints.shapes import check_shapes, known_types

_APPLICATORS = ("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "$recursiveRef", "not", "if")

_WITH_SCHEMAS = {
    "properties",
    "additionalProperties",
    "patternProperties",
    "items",
    "prefixItems",
}


@dataclass
class Core:
    """A node: a value is valid under ``own``, all conjuncts, and one schema of each choice.

    ``own`` has the keywords of types, ``enum`` and ``const``; ``pattern`` is a list of
    patterns, all of which match. ``before`` are the conjuncts whose properties come first.
    """

    own: dict[str, Any] = field(default_factory=dict[str, Any])
    before: list[Node] = field(default_factory=list[Node])
    after: list[Node] = field(default_factory=list[Node])
    choices: list[list[Node]] = field(default_factory=list[list[Node]])

    @property
    def alone(self) -> Node | None:
        """The only conjunct of a node that is nothing else, such as a reference."""
        conjuncts = self.before + self.after
        is_alone = len(conjuncts) == 1 and not self.own and not self.choices
        return conjuncts[0] if is_alone else None

    @property
    def is_leaf(self) -> bool:
        """True if no schemas are inside the node."""
        return not (
            self.before or self.after or self.choices or self.own.keys() & _WITH_SCHEMAS
        )


class Keywords:
    """Reduces the nodes of ``document``, each once."""

    def __init__(self, document: Document):
        self.document = document
        self.num_comparisons = 0  # of schemas that should exclude each other
        self._cores: dict[int, tuple[Node, Core]] = {}  # with the node, to keep its identity
        self._combined: dict[tuple[int, ...], Node] = {}
        self._constituents: dict[int, list[Node]] = {}  # of combined nodes

    def core(self, node: Node) -> Core:
        """``node`` in the keywords that can be enforced.

        Raises:
            InvalidRequest: a keyword cannot be enforced and must be, or is malformed.
        """
        if isinstance(node, bool):
            return Core() if node else Core({"enum": []})
        if id(node) not in self._cores:
            self._cores[id(node)] = node, Core()  # for a condition that refers to its own node
            self._cores[id(node)] = node, self._reduced(node)
        return self._cores[id(node)][1]

    def followed(self, node: Node) -> Node:
        """``node``, or where its chain of references ends if it is nothing but a reference."""
        seen: set[int] = set()
        while id(node) not in seen and (target := self.core(node).alone) is not None:
            seen.add(id(node))
            node = target
        return node

    def combined(self, first: Node, second: Node) -> Node:
        """The node that is valid where both are; the same one for the same nodes.

        A node that contains itself would otherwise be combined with itself without an end.
        """
        parts: dict[int, Node] = {}
        for node in map(self.followed, (first, second)):
            for part in self._constituents.get(id(node), [node]):
                parts[id(part)] = part
        key = tuple(parts)
        if len(key) == 1:
            return parts[key[0]]
        if key not in self._combined:
            node: Node = {"allOf": list(parts.values())}
            self._combined[key] = node
            self._constituents[id(node)] = list(parts.values())
        return self._combined[key]

    def is_combined(self, node: Node) -> bool:
        """True if ``node`` is one of ``combined``; it can contain itself."""
        return id(node) in self._constituents

    def _reduced(self, node: Mapping[str, Any]) -> Core:
        fields = {
            key: value for key, value in node.items() if value is not None or key == "const"
        }
        check_shapes(self.document, node, fields)
        core = Core()
        conjuncts = core.before
        for key in fields:
            if key == "properties":
                conjuncts = core.after
            elif key in ("const", "enum"):
                self._add_values(node, key, fields, core)
            elif key in _APPLICATORS:
                self._apply(node, key, fields, conjuncts, core.choices)
        if (kinds := fields.get("type")) is not None:
            core.own["type"] = known_types(self.document, node, kinds)
        core.own |= scalars.number_keywords(self.document, node, fields)
        core.own |= scalars.string_keywords(self.document, node, fields)
        core.own |= self._array(node, fields)
        object_keywords(self, node, fields, core)
        return core

    def _add_values(self, node: Node, key: str, fields: Mapping[str, Any], core: Core) -> None:
        values = fields[key] if key == "enum" else [fields[key]]
        exact = scalars.exact_values(self.document, node, key, values)
        if exact or not values:
            core.own[key] = exact if key == "enum" else exact[0]

    def _apply(
        self,
        node: Mapping[str, Any],
        key: str,
        fields: Mapping[str, Any],
        conjuncts: list[Node],
        choices: list[list[Node]],
    ) -> None:
        value = fields[key]
        if key == "allOf" or (key in ("anyOf", "oneOf") and len(value) == 1):
            conjuncts += value
        elif key == "anyOf":
            choices.append(value)
        elif key == "oneOf":
            options = exclusive(self, value, fields.get("properties", {}))
            if options is None:
                reason = "its schemas must exclude each other, by their types or by a const"
                self.document.leave_out(node, key, reason)
            choices.append(options or value)
        elif key == "not":
            opposite = complement(self, value, fields.get("properties", {}))
            if opposite is None:
                self.document.leave_out(node, key)
            else:
                conjuncts.append(opposite)
        elif key == "if":
            branches, is_exact = if_branches(self, fields)
            if not is_exact:
                self.document.leave_out(node, key)
            choices += [branches] if branches else []
        elif (target := self.document.target(node, value)) is None:
            reason = f"{value[:100]} does not exist in this schema"
            self.document.leave_out(node, key, reason)
        else:
            conjuncts.append(target)

    def _array(self, node: Node, fields: Mapping[str, Any]) -> dict[str, Any]:
        own: dict[str, Any] = {
            key: scalars.as_count(fields[key])
            for key in ("minItems", "maxItems")
            if key in fields
        }
        first, items = fields.get("prefixItems"), fields.get("items")
        if isinstance(items, list):  # before draft 2020-12
            first, items = items, fields.get("additionalItems")
        if items is None and "unevaluatedItems" in fields:
            if any(key in fields for key in _APPLICATORS):
                self.document.leave_out(node, "unevaluatedItems")
            else:
                items = fields["unevaluatedItems"]
        if first:
            own["prefixItems"] = first
        if items is not None and items is not True:
            own["items"] = items
        if fields.get("uniqueItems"):
            self.document.leave_out(node, "uniqueItems")
        if "contains" in fields and fields.get("minContains", 1) != 0:
            self.document.leave_out(node, "contains")
        return own
