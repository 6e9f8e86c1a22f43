"""``if``, ``not`` and ``oneOf``, which llguidance lacks, as ``anyOf`` and ``allOf``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlxnode.server.constraints.document import Node
from mlxnode.server.constraints.shapes import TYPES, check_shapes

if TYPE_CHECKING:
    from mlxnode.server.constraints.keywords import Keywords

_MAX_LEVELS = 8  # of schemas within schemas that are looked at
_MAX_OPTIONS = 64  # pairs of more would take long to compare
_MAX_COMPARISONS = 10_000  # of pairs, in one schema
_ASSERTIONS = {"type", "const", "enum", "required", "properties", "anyOf", "allOf", "not"}
_ANNOTATIONS = {"title", "description", "default", "examples", "$comment"}


def if_branches(keywords: Keywords, fields: Mapping[str, Any]) -> tuple[list[Node], bool]:
    """The two branches of an ``if``, and whether a value is valid under exactly one of them.

    Where the opposite of the condition cannot be said, the second branch is the ``else``.
    There are no branches if there is nothing to say.
    """
    then, otherwise = fields.get("then", True), fields.get("else", True)
    if then is True and otherwise is True:
        return [], True
    opposite = complement(keywords, fields["if"], fields.get("properties", {}))
    first: Node = {"allOf": [fields["if"], then]}
    if opposite is None:
        return [first, otherwise], False
    return [first, {"allOf": [opposite, otherwise]}], True


def complement(
    keywords: Keywords, node: Node, properties: Mapping[str, Any], level: int = 0
) -> Node | None:
    """The schema of the values that are invalid under ``node``; None if it cannot be said.

    ``properties`` are those beside ``node``, which can say what values there are.
    """
    if isinstance(node, bool):
        return not node
    check_shapes(keywords.document, node, node)
    asserted = {
        key
        for key in node
        if key not in _ANNOTATIONS and (node[key] is not None or key == "const")
    }
    if not asserted <= _ASSERTIONS or level > _MAX_LEVELS:
        return None
    options: list[Node | None] = []
    for key in sorted(asserted):
        value = node[key]
        if key == "type":
            options.append(_other_types(value))
        elif key == "required":
            options += _missing(value)
        elif key == "properties":
            options += [
                _other_values(keywords, name, schema, properties.get(name))
                for name, schema in value.items()
            ]
        elif key in ("anyOf", "allOf"):
            inner = [complement(keywords, part, properties, level + 1) for part in value]
            if key == "allOf":
                options += inner
            else:
                options.append(None if None in inner else {"allOf": inner})
        else:
            options.append(value if key == "not" else None)
    if None in options:
        return None
    return {"anyOf": options} if options else False


def _missing(names: Any) -> list[Node | None]:
    """Per name, the objects that lack it."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return [None]
    return [{"type": "object", "properties": {name: False}} for name in names]


def _other_types(kinds: str | list[str]) -> Node | None:
    names = {kinds} if isinstance(kinds, str) else set(kinds)
    if "integer" in names and "number" not in names:
        return None  # the other numbers have no type
    if "number" in names:
        names.add("integer")
    return (
        {"type": [kind for kind in TYPES if kind not in names]} if names < set(TYPES) else False
    )


def _other_values(keywords: Keywords, name: str, schema: Node, known: Any) -> Node | None:
    """The objects whose property ``name`` is invalid under ``schema``."""
    if known is None or isinstance(schema, bool):
        return None
    check_shapes(keywords.document, schema, schema)
    if schema.keys() - _ANNOTATIONS not in ({"const"}, {"enum"}):
        return None
    chosen = {_as_text(value) for value in schema.get("enum", [schema.get("const")])}
    values = Facts.of(keywords, known).values
    if values is None:
        return None
    rest = [json.loads(value) for value in sorted(values - chosen)]
    return {"type": "object", "properties": {name: {"enum": rest}}, "required": [name]}


def _as_text(value: Any) -> str:
    """``value`` as JSON, the same text for equal values."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


@dataclass
class Facts:
    """What all values have that are valid under a node. None: nothing is known."""

    types: set[str] = field(default_factory=lambda: set(TYPES))
    values: set[str] | None = None  # as JSON
    properties: dict[str, list[Node]] = field(default_factory=dict[str, list[Node]])
    required: set[str] = field(default_factory=set[str])
    only: set[str] | None = None  # the names that an object may have
    choices: list[list[Node]] = field(default_factory=list[list[Node]])

    @classmethod
    def of(cls, keywords: Keywords, node: Node) -> Facts:
        """What is known of ``node`` without looking into choices."""
        facts, seen, nodes = cls(), set[int](), [node]
        while nodes and len(seen) < _MAX_OPTIONS:
            core = keywords.core(node := nodes.pop())
            if id(node) not in seen:
                seen.add(id(node))
                facts._add(core.own)
                facts.choices += core.choices
                nodes += core.before + core.after
        return facts

    def _add(self, own: Mapping[str, Any]) -> None:
        if "type" in own:
            kinds = {own["type"]} if isinstance(own["type"], str) else set(own["type"])
            self.types &= kinds | ({"integer"} if "number" in kinds else set())
        for key in ("enum", "const"):
            if key in own:
                values = own[key] if key == "enum" else [own[key]]
                texts = set(map(_as_text, values))
                self.values = texts if self.values is None else self.values & texts
        if self.types == {"boolean"} and self.values is None:
            self.values = {"true", "false"}
        for name, schema in own.get("properties", {}).items():
            self.properties.setdefault(name, []).append(schema)
        self.required |= set(own.get("required", ()))
        if own.get("additionalProperties") is False and "patternProperties" not in own:
            names = set(own.get("properties", ()))
            self.only = names if self.only is None else self.only & names


def exclusive(
    keywords: Keywords, nodes: list[Node], properties: Mapping[str, Any]
) -> list[Node] | None:
    """Schemas of the values that are valid under exactly one of ``nodes``; None if there are
    none that can be said. ``properties`` are those beside ``oneOf``.
    """
    if len(nodes) > _MAX_OPTIONS:
        return None
    pairs = itertools.combinations(nodes, 2)
    if all(_is_disjoint(keywords, first, second, 0) for first, second in pairs):
        return nodes
    opposites = [complement(keywords, node, properties) for node in nodes]
    if None in opposites or len(nodes) > _MAX_LEVELS:
        return None
    return [
        {"allOf": [node, *opposites[:i], *opposites[i + 1 :]]} for i, node in enumerate(nodes)
    ]


def _is_disjoint(keywords: Keywords, first: Node, second: Node, level: int) -> bool:
    keywords.num_comparisons += 1
    if level > _MAX_LEVELS or keywords.num_comparisons > _MAX_COMPARISONS:
        return False
    a, b = Facts.of(keywords, first), Facts.of(keywords, second)
    if a.values is not None and b.values is not None and not a.values & b.values:
        return True
    types = _possible(a) & _possible(b)
    if not types:
        return True
    for facts, other in ((a, second), (b, first)):
        for choice in facts.choices:
            if all(_is_disjoint(keywords, option, other, level + 1) for option in choice):
                return True
    return types == {"object"} and any(_distinguishing(keywords, a, b, level))


def _distinguishing(keywords: Keywords, a: Facts, b: Facts, level: int) -> Iterator[bool]:
    """Whether a property that both objects have tells them apart, for each such property."""
    for one, other in ((a, b), (b, a)):
        yield other.only is not None and not one.required <= other.only
    for name in sorted(a.required & b.required):
        pairs = itertools.product(a.properties.get(name, []), b.properties.get(name, []))
        for first, second in itertools.islice(pairs, _MAX_OPTIONS):
            yield _is_disjoint(keywords, first, second, level + 1)


def _possible(facts: Facts) -> set[str]:
    """The types that values of a node can have."""
    if facts.values is None:
        return facts.types
    kinds = {type(None): "null", bool: "boolean", str: "string", list: "array", dict: "object"}
    found: set[str] = set()
    for text in facts.values:
        kind = kinds.get(type(json.loads(text)))
        found |= {kind} if kind else {"integer", "number"}
    return found & facts.types
