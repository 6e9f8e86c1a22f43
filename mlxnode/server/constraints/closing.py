"""Writes the schema that llguidance gets, with its objects closed.

An object is closed where the schema lists properties and says nothing of others. That is
decided for an object as a whole: over ``allOf``, references and the chosen schema of an
``anyOf``, as ``unevaluatedProperties: false`` would. Where it cannot be told which names an
object may have, it is left open.
"""

from dataclasses import replace
from typing import Any

from mlxnode.server.constraints.counts import limit_counts
from mlxnode.server.constraints.document import Document, Node
from mlxnode.server.constraints.keywords import Keywords
from mlxnode.server.constraints.merging import merged
from mlxnode.server.constraints.names import NO_NAMES, Names, NamesOfNodes, union

MAX_NODES = 10_000  # of the schema that is written; references can multiply nodes

_MAX_DEPTH = 20  # deeper nodes become definitions; each one takes up to four levels of JSON
_MAX_CONJUNCTS = 80  # within each other, through references
_OPEN = Names(is_open=True, is_deep=True)

Own = dict[str, Any]
Trail = tuple[int, ...]  # the identities of nodes


class Writer:
    """Writes the nodes of ``document``; ``closed``: with closed objects."""

    def __init__(self, document: Document, *, closed: bool):
        self._document = document
        self._closed = closed
        self._keywords = Keywords(document)
        self._names = NamesOfNodes(self._keywords)
        self._references: dict[tuple[int, Names], str] = {}
        self._pending: list[tuple[str, Node, Names]] = []
        self._num_nodes = 0

    def write(self) -> dict[str, Any]:
        """The whole schema. Its definitions are ``d0``, ``d1``, …

        Raises:
            InvalidRequest: see ``Keywords.core``; or the schema becomes too large.
        """
        root = self._whole(self._keywords.followed(self._document.root), NO_NAMES, 0)
        definitions: dict[str, Any] = {}
        while self._pending:
            name, node, around = self._pending.pop()
            definitions[name] = self._whole(node, around, 0)
        return {**root, "$defs": definitions} if definitions else root

    def _value(self, node: Node, around: Names, depth: int) -> Any:
        """The schema of a value that ``node`` describes, and nothing else."""
        target = self._keywords.followed(node)
        if isinstance(target, bool):
            return target
        is_named = target is not node or self._keywords.is_combined(target)
        if (is_named and not self._keywords.core(target).is_leaf) or depth > _MAX_DEPTH:
            return self._reference(target, around)
        return self._whole(target, around, depth)

    def _reference(self, node: Node, around: Names) -> dict[str, str]:
        key = id(node), around
        if key not in self._references:
            name = f"d{len(self._references)}"
            self._references[key] = f"#/$defs/{name}"
            self._pending.append((name, node, around))
        return {"$ref": self._references[key]}

    def _whole(
        self, node: Node, around: Names, depth: int, trail: Trail = ()
    ) -> dict[str, Any]:
        """The schema of ``node`` where ``around`` is what else describes the same value.

        ``trail``: the nodes of that value that lead here.
        """
        owns: list[Own] = []
        found: list[tuple[list[Node], Trail]] = []
        self._collect(node, owns, found, trail)
        choices = [choice for choice, _ in found]
        parts = merged(owns, self._keywords.combined)
        told = [self._names.of_choice(choice) for choice in choices]
        is_alone = len(parts) <= 1 and not choices and around == NO_NAMES
        own = union([around, *(Names.of_own(part, is_alone=is_alone) for part in parts)])
        if own.is_forced:
            self._check_forced(node, union([own, *told]), [])
        adding = [names.says_more_than(own) for names in told]
        if self._closes(own) and not any(adding):
            parts = _closed(parts, own)
        is_only = not parts and len(choices) == 1 and around == NO_NAMES
        written = [
            self._choice(
                choice,
                union(
                    [replace(own, is_open=own.is_open or not adds), *told[:i], *told[i + 1 :]]
                ),
                depth,
                trail=() if is_only else found[i][1],
            )
            for i, (choice, adds) in enumerate(zip(choices, adding, strict=True))
        ]
        others = union([around, *told])
        if len(parts) > 1 and any("properties" in part for part in parts[1:]):
            others = _OPEN
        pieces: list[Own] = []
        for part in parts:
            limit_counts(self._document, node, part, is_alone)
            pieces += self._pieces(part, others, depth)
        return _joined(pieces, written)

    def _check_forced(self, node: Node, names: Names, trail: list[int]) -> None:
        """``unevaluatedProperties: false`` of a conjunct does not know the names beside it."""
        core = self._keywords.core(node)
        if core.own.get("unevaluatedProperties") is False:
            if names.says_more_than(self._names.of(node)):
                reason = "schemas beside it add properties"
                self._document.leave_out(node, "unevaluatedProperties", reason)
        elif id(node) not in trail:
            for conjunct in core.before + core.after:
                self._check_forced(conjunct, names, [*trail, id(node)])

    def _closes(self, own: Names) -> bool:
        return not own.is_open and (own.is_forced or (self._closed and own.lists))

    def _collect(
        self,
        node: Node,
        owns: list[Own],
        choices: list[tuple[list[Node], Trail]],
        trail: Trail,
    ) -> None:
        """Add what ``node`` and its conjuncts say to ``owns`` and ``choices``."""
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            self._document.refuse(self._document.root, "it is too large with its references")
        if len(trail) > _MAX_CONJUNCTS:
            self._document.refuse(node, "too many schemas are in each other")
        if id(node) in trail and not isinstance(node, bool):
            self._document.leave_out(node, "$ref", "the schema refers to itself")
            return
        core = self._keywords.core(node)
        trail = (*trail, id(node))
        for conjunct in core.before:
            self._collect(conjunct, owns, choices, trail)
        if core.own:
            owns.append(dict(core.own))
        for conjunct in core.after:
            self._collect(conjunct, owns, choices, trail)
        choices += [(choice, trail) for choice in core.choices]

    def _choice(
        self, choice: list[Node], around: Names, depth: int, *, trail: Trail
    ) -> list[Any]:
        """The schemas of a choice; without a ``trail``, nothing else describes the value."""
        if not trail:
            return [self._value(option, NO_NAMES, depth + 1) for option in choice]
        # An option that is the node itself adds no values.
        options = [o for o in choice if id(self._keywords.followed(o)) not in trail]
        return [
            self._reference(option, around)
            if depth > 2 * _MAX_DEPTH
            else self._whole(option, around, depth + 1, trail)
            for option in options
        ] or [False]

    def _pieces(self, own: Own, others: Names, depth: int) -> list[Own]:
        """``own`` as written, and one more for each further pattern of a string."""
        self._num_nodes += len(own.get("properties", ()))

        def written(node: Node, *, is_shared: bool) -> Any:
            around = _OPEN if is_shared or others.is_deep else NO_NAMES
            return self._value(node, around, depth + 1)

        out = dict(own)
        out.pop("unevaluatedProperties", None)
        if "properties" in own:
            out["properties"] = {
                name: written(schema, is_shared=others.has_rest or name in others.described)
                for name, schema in own["properties"].items()
            }
        if "additionalProperties" in own:
            is_shared = bool(others.described) or others.has_rest
            out["additionalProperties"] = written(
                own["additionalProperties"], is_shared=is_shared
            )
        if "patternProperties" in own:
            is_shared = bool(others.described) or others.has_rest
            out["patternProperties"] = {
                pattern: written(schema, is_shared=is_shared)
                for pattern, schema in own["patternProperties"].items()
            }
        if "items" in own:
            out["items"] = written(own["items"], is_shared=others.has_items)
        if "prefixItems" in own:
            out["prefixItems"] = [
                written(node, is_shared=others.has_items) for node in own["prefixItems"]
            ]
        patterns = out.pop("pattern", None) or [None]
        if patterns[0] is not None:
            out["pattern"] = patterns[0]
        return [out, *({"pattern": pattern} for pattern in patterns[1:])]


def _closed(parts: list[Own], names: Names) -> list[Own]:
    """``parts`` with an object that has no other properties than ``names``."""
    closing = {"properties": dict.fromkeys(names.names, True), "additionalProperties": False}
    if not parts:
        return [closing]
    first, *rest = parts
    kinds = first.get("type", "object")
    if "enum" in first or "const" in first or "object" not in kinds:
        return parts
    if rest and any("properties" in part for part in rest):
        return [*parts, closing]
    own = first.get("properties", {})
    closing["properties"] = own | {n: True for n in names.names if n not in own}
    return [{**first, **closing}, *rest]


def _joined(pieces: list[Own], choices: list[list[Any]]) -> dict[str, Any]:
    """One schema that says all of these."""
    if len(pieces) <= 1 and len(choices) <= 1:
        anyof = {"anyOf": choices[0]} if choices else {}
        return {**(pieces[0] if pieces else {}), **anyof}
    return {"allOf": [*pieces, *({"anyOf": choice} for choice in choices)]}
