"""Random schemas of objects composed in the ways of JSON Schema, each with a valid value.

Every property has a name of its own, so that a name says which object knows it.
"""

from random import Random
from typing import Any

Schema = dict[str, Any]


class CompositionMaker:
    """Makes one schema. ``known`` has the names of the properties of each object.

    The object of a property, or of the items of its array, has that property's name; the
    whole value has the name "". Where ``has_exact_choices``, a value is valid under exactly
    one schema of a ``oneOf``.
    """

    def __init__(self, seed: int):
        self._random = Random(seed)
        self._num_names = 0
        self._definitions: dict[str, Schema] = {}
        self.known: dict[str, set[str]] = {}

    def make(self) -> tuple[Schema, Any]:
        """A whole schema and a value that is valid under it."""
        schema, value = self._object("", 0)
        if self._definitions:
            schema = {**schema, self._random.choice(["$defs"]): self._definitions}
        return schema, value

    def _object(self, owner: str, depth: int) -> tuple[Schema, Any]:
        kinds = [
            self._plain,
            self._all_of,
            self._any_of,
            self._if,
            self._dependent,
            self._nested,
        ]
        return self._random.choice(kinds)(owner, depth)

    def _name(self, owner: str) -> str:
        self._num_names += 1
        name = f"p{self._num_names}"
        self.known.setdefault(owner, set()).add(name)
        return name

    def _value(self, name: str, depth: int) -> tuple[Schema, Any]:
        self.known.setdefault(name, set())
        kind = self._random.randrange(6 if depth < 2 else 3)
        if kind == 0:
            return {"type": "string", "maxLength": 3, "pattern": "^[a-c]*$"}, "ab"
        if kind == 1:
            return {"type": "integer", "minimum": 0, "maximum": 20}, 7
        if kind == 2:
            return {"enum": ["x", None, True]}, None
        schema, value = self._object(name, depth + 1)
        if kind == 3:
            schema, value = {"type": "array", "items": schema, "maxItems": 2}, [value]
        if kind == 4 or self._random.random() < 0.3:
            return self._reference(schema), value
        return schema, value

    def _reference(self, schema: Schema) -> Schema:
        key = f"d{len(self._definitions)}/{self._random.choice('ab~')}"
        self._definitions[key] = schema
        pointer = key.replace("~", "~0").replace("/", "~1")
        return {"$ref": f"#/$defs/{pointer}", **self._random.choice([{}, {"title": "t"}])}

    def _plain(self, owner: str, depth: int) -> tuple[Schema, Any]:
        schema: Schema = {"type": "object", "properties": {}, "required": []}
        value = {}
        for _ in range(self._random.randint(1, 3)):
            name = self._name(owner)
            schema["properties"][name], inner = self._value(name, depth)
            if self._random.random() < 0.6:
                schema["required"].append(name)
                value[name] = inner
            elif self._random.random() < 0.5:
                value[name] = inner
        return schema, value

    def _all_of(self, owner: str, depth: int) -> tuple[Schema, Any]:
        parts = [self._plain(owner, depth) for _ in range(self._random.randint(2, 3))]
        schemas = [
            self._reference(schema) if self._random.random() < 0.5 else schema
            for schema, _ in parts
        ]
        whole: Schema = {"allOf": schemas}
        if self._random.random() < 0.5:  # the first beside the others, as pydantic writes
            whole = {**parts[0][0], "allOf": schemas[1:]}
        value: dict[str, Any] = {}
        for _, inner in parts:
            value |= inner
        return whole, value

    def _any_of(self, owner: str, depth: int) -> tuple[Schema, Any]:
        parts = [self._plain(owner, depth) for _ in range(self._random.randint(2, 3))]
        schemas = [
            self._reference(schema) if self._random.random() < 0.5 else schema
            for schema, _ in parts
        ]
        _, value = self._random.choice(parts)
        whole: Schema = {"anyOf": schemas}
        if self._random.random() < 0.5:
            beside, inner = self._plain(owner, depth)
            whole = beside | whole
            value = inner | value
        return whole, value

    def _if(self, owner: str, depth: int) -> tuple[Schema, Any]:
        kind = self._name(owner)
        then, value = self._plain(owner, depth)
        otherwise, other_value = self._plain(owner, depth)
        schema: Schema = {
            "type": "object",
            "properties": {kind: {"enum": ["m", "n", "o"]}},
            "required": [kind],
            "if": {"properties": {kind: {"const": "m"}}},
            "then": then,
            "else": otherwise,
        }
        if self._random.random() < 0.5:
            return schema, {kind: "m", **value}
        return schema, {kind: "o", **other_value}

    def _dependent(self, owner: str, depth: int) -> tuple[Schema, Any]:
        schema, value = self._plain(owner, depth)
        first, second = self._name(owner), self._name(owner)
        for name in (first, second):
            schema["properties"][name], value[name] = self._value(name, depth)
        schema["dependentRequired"] = {first: [second]}
        if self._random.random() < 0.5:
            del value[first]
        return schema, value

    def _nested(self, owner: str, depth: int) -> tuple[Schema, Any]:
        """One property that two conjuncts describe."""
        name = self._name(owner)
        (left, a), (right, b) = self._plain(name, depth + 1), self._plain(name, depth + 1)
        parts = [
            {"type": "object", "properties": {name: schema}, "required": [name]}
            for schema in (left, right)
        ]
        if self._random.random() < 0.5:
            parts[1] = self._reference(parts[1])
        return {"allOf": parts}, {name: a | b}
