"""Random JSON schemas of the kinds that clients send, each satisfiable by construction."""

from random import Random
from typing import Any

Schema = dict[str, Any]

WORDS = ["id", "name", "größe", "kind", "tags", "a/b", 'quo"te', "x y", "items", "$ref"]
PATTERNS = [
    "^[a-z]{2,5}$",
    r"^\d{3}-\d{4}$",
    "^(yes|no|maybe)$",
    "[A-F0-9]@",
    r"^\S{1,5}@\S{1,5}$",
]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email"]
VALUES = ["red", "", "ein ß", 'with "quotes"', "line\nbreak", 0, -7, 2.5, True, None]


class SchemaMaker:
    """Makes one schema; leaves become likelier with every level."""

    def __init__(self, seed: int):
        self._random = Random(seed)
        self._definitions: dict[str, Schema] = {}

    def make(self) -> Schema:
        """A whole schema, with the definitions that it refers to."""
        make = self._random.choice([self._object, self._object, self._array, self._any_of])
        schema = make(0)
        if self._definitions:
            schema["$defs"] = self._definitions
        return schema

    def _node(self, depth: int) -> Schema:
        leaves = [self._string, self._number, self._integer, self._enum, self._plain]
        nested = [self._object, self._array, self._any_of, self._reference]
        is_leaf = depth >= 3 or self._random.random() < 0.25 * depth
        return self._random.choice(leaves if is_leaf else leaves[:3] + nested)(depth)

    def _object(self, depth: int) -> Schema:
        names = self._random.sample(WORDS, self._random.randint(1, 4))
        schema: Schema = {
            "type": "object",
            "properties": {name: self._node(depth + 1) for name in names},
            "required": [name for name in names if self._random.random() < 0.6],
        }
        free = self._random.choice([False, False, True, None])
        if free is True:
            schema["additionalProperties"] = self._random.choice([True, {"type": "integer"}])
        elif free is False:
            schema["additionalProperties"] = False
        return schema

    def _array(self, depth: int) -> Schema:
        schema: Schema = {"type": "array", "items": self._node(depth + 1)}
        least = self._random.randint(0, 3)
        if self._random.random() < 0.7:
            schema["minItems"] = least
        if self._random.random() < 0.7:
            schema["maxItems"] = least + self._random.randint(0, 3)
        if self._random.random() < 0.2:
            schema["prefixItems"] = [self._node(depth + 1)]
        return schema

    def _any_of(self, depth: int) -> Schema:
        count = self._random.randint(2, 3)
        return {"anyOf": [self._node(depth + 1) for _ in range(count)]}

    def _reference(self, depth: int) -> Schema:
        name = f"d{len(self._definitions)}"
        if self._random.random() < 0.4:  # a list or tree of itself
            self._definitions[name] = {
                "type": "object",
                "properties": {
                    "value": self._string(depth),
                    "next": {"anyOf": [{"type": "null"}, {"$ref": f"#/$defs/{name}"}]},
                },
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        else:
            self._definitions[name] = {}  # takes the name before those below it
            self._definitions[name] = self._node(depth + 1)
        return {"$ref": f"#/$defs/{name}"}

    def _string(self, depth: int) -> Schema:
        kind = self._random.randrange(4)
        if kind == 0:
            return {"type": "string", "pattern": self._random.choice(PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self._random.choice(FORMATS)}
        least = self._random.randint(0, 5)
        return {"type": "string", "minLength": least, "maxLength": least + 8}

    def _integer(self, depth: int) -> Schema:
        least = self._random.randint(-200, 200)
        schema: Schema = {"type": "integer", "minimum": least}
        if self._random.random() < 0.7:
            schema["maximum"] = least + self._random.randint(20, 1000)
        if self._random.random() < 0.3:
            schema["multipleOf"] = self._random.choice([2, 5, 10])
        return schema

    def _number(self, depth: int) -> Schema:
        least = round(self._random.uniform(-50, 50), 2)
        lower = self._random.choice(["minimum", "exclusiveMinimum"])
        upper = self._random.choice(["maximum", "exclusiveMaximum"])
        return {"type": "number", lower: least, upper: round(least + 12.5, 2)}

    def _enum(self, depth: int) -> Schema:
        if self._random.random() < 0.3:
            return {"const": self._random.choice(VALUES)}
        return {"enum": self._random.sample(VALUES, self._random.randint(1, 4))}

    def _plain(self, depth: int) -> Schema:
        return {"type": self._random.choice(["boolean", "null", ["integer", "null"]])}


def closed(node: Any) -> Any:
    """The same schema, but without anything that a small model could go on with forever."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(value) for key, value in node.items()}
    kind = node.get("type")
    if kind == "array":
        node["maxItems"] = max(node.get("minItems", 0), min(node.get("maxItems", 2), 2))
    elif kind == "object":
        node["additionalProperties"] = False
    elif kind == "integer":
        node.setdefault("maximum", node.setdefault("minimum", 0) + 1000)
    elif kind == "number":
        node["multipleOf"] = 0.5
    elif isinstance(kind, list):
        node["type"] = "boolean"
    elif "next" in node and "value" in node:
        node["next"] = {"type": "null"}  # of a list of itself
    elif node.get("pattern") in ("[A-F0-9]@", r"^\S{1,5}@\S{1,5}$"):
        node = {"type": "string", "maxLength": 8}
    elif node.get("format") == "email":
        node = {"type": "string", "format": "date"}
    return node
