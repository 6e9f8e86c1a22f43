"""Values that are written as literals: those of Python, and those of Gemma."""

import json
from collections.abc import Mapping
from typing import Any

from mlxnode.server.constraints.lark import ANY, LarkGrammar, one_of, sequence
from mlxnode.server.constraints.markers import Plain, quoted
from mlxnode.server.constraints.members import members
from mlxnode.server.constraints.properties import Parameters, Value, types_of, value_of
from mlxnode.server.notation.notation import GEMMA_QUOTE, ValueStyle

_INTEGER = "/-?(0|[1-9][0-9]{0,15})/"
_NUMBER = r"/-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,16})?([eE][-+]?[0-9]{1,2})?/"
_PYTHON_STRINGS = (
    r"""/"([^"\\\n\r\x00]|\\["'\\ntr]|\\u[0-9a-fA-F]{4}){LENGTH}"/""",
    r"""/'([^'\\\n\r\x00]|\\["'\\ntr]|\\u[0-9a-fA-F]{4}){LENGTH}'/""",
)
_NAME = "/[A-Za-z_][A-Za-z0-9_]{0,63}/"
_MAX_DEPTH = 5  # of lists in lists whose elements keep their types
# What the elements of a strict list, or a number, may have; the rest cannot be enforced.
_PLAIN = frozenset(
    {
        *("type", "title", "description", "default", "examples", "items", "enum"),
        *("properties", "required", "additionalProperties"),
    }
)


class LiteralValues:
    """Writes the rules of values in one style."""

    def __init__(self, grammar: LarkGrammar, parameters: Parameters, *, is_gemma: bool):
        self._grammar = grammar
        self._parameters = parameters
        self._is_gemma = is_gemma
        self._separator = quoted(",") if is_gemma else "/, ?/"
        names = ("true", "false", "null") if is_gemma else ("True", "False", "None")
        self._true, self._false, self._null = map(grammar.literal, names)

    @classmethod
    def of(
        cls, style: ValueStyle, grammar: LarkGrammar, parameters: Parameters
    ) -> "LiteralValues":
        return cls(grammar, parameters, is_gemma=style is ValueStyle.GEMMA)

    def value(self, value: Value, depth: int = 0) -> str:
        """An expression for ``value``; raises InvalidRequest where strict cannot be kept."""
        choices = []
        if value.texts is None:
            choices.append(self._string(value))
        else:
            choices += [one for text in value.texts for one in self._quotations(text)]
        if value.others is not None:
            choices += self._others(value.others, depth)
        return one_of(choices)

    def _others(self, schema: Mapping[str, Any], depth: int) -> list[str]:
        if isinstance(branches := schema.get("anyOf"), list):
            return [one for branch in branches for one in self._others(branch, depth)]
        if isinstance(choices := schema.get("enum"), list):
            return [self._constant(choice) for choice in choices]
        if unknown := sorted(schema.keys() - _PLAIN):
            self._parameters.refuse(unknown[0])
        kinds = {
            "integer": _INTEGER,
            "number": _NUMBER,
            "boolean": one_of([self._true, self._false]),
            "null": self._null,
            "object": self._object,
            "array": self._array,
        }
        types = sorted(types_of(schema) & kinds.keys())
        if "number" in types and "integer" in types:
            types.remove("integer")
        choices = []
        for kind in types:
            form = kinds[kind]
            choices.append(form if isinstance(form, str) else form(schema, depth))
        return choices

    # --- strings --------------------------------------------------------------------

    def _string(self, value: Value) -> str:
        low, high = value.min_length, "" if value.max_length is None else value.max_length
        length = f"{{{low},{high}}}" if low or high != "" else "*"
        if not self._is_gemma:
            return one_of([string.replace("{LENGTH}", length) for string in _PYTHON_STRINGS])
        regex = ANY if length == "*" else f"(?s:.{length})"
        name = "gemma_text" if length == "*" else f"gemma_text_{low}_{high}"
        rest = self._grammar.text_until(name, regex, GEMMA_QUOTE)
        return sequence([self._grammar.literal(GEMMA_QUOTE), rest])

    def _quotations(self, text: str) -> list[str]:
        """``text`` as a literal, in each of the usual ways."""
        if self._is_gemma:
            return [self._grammar.literal(GEMMA_QUOTE, Plain(text), GEMMA_QUOTE)]
        ways = dict.fromkeys((json.dumps(text, ensure_ascii=False), repr(text)))
        return [quoted(way) for way in ways]

    # --- lists and objects ----------------------------------------------------------

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        items = schema.get("items")
        if depth < _MAX_DEPTH and isinstance(items, Mapping):
            element = self.value(value_of(self._parameters, "items", items), depth + 1)
        else:
            element = self._any()
        return self._several("[", element, "]")

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        inner = self._parameters.within(schema)
        name = self._grammar.new_name("object")
        if not inner.properties or depth >= _MAX_DEPTH or name is None:
            if inner.properties:
                self._parameters.refuse("properties")
            return self._several("{", self._member(self._any()), "}")
        values = LiteralValues(self._grammar, inner, is_gemma=self._is_gemma)
        pairs = [
            self._grammar.rule(f"{name}pair_{i}", values.pair(key, of, depth + 1))
            for i, (key, of) in enumerate(inner.properties.items())
        ]
        body = members(
            self._grammar,
            name,
            pairs,
            inner.required_numbers,
            separator=self._separator,
            # Another member could repeat a known one, whose name can be written in two ways.
            extra=None,
        )
        return sequence([quoted("{"), body, quoted("}")])

    def pair(self, key: str, schema: Any, depth: int) -> str:
        """One member of an object."""
        value = self.value(value_of(self._parameters, key, schema), depth)
        if self._is_gemma:
            return sequence([quoted(f"{key}:"), value])
        names = dict.fromkeys((json.dumps(key, ensure_ascii=False), repr(key)))
        return sequence([one_of(map(quoted, names)), "/: ?/", value])

    def _member(self, value: str) -> str:
        """A key of an object with a ``value``."""
        if self._is_gemma:
            return sequence([_NAME, quoted(":"), value])
        return sequence([self._string(Value(None)), "/: ?/", value])

    def _several(self, start: str, element: str, end: str) -> str:
        elements = f"({element} ({self._separator} {element})*)?"
        return sequence([quoted(start), elements, quoted(end)])

    def _any(self) -> str:
        """The rule of any value, which refers to itself."""
        name = "gemma_value" if self._is_gemma else "python_value"
        choices = [self._string(Value(None)), _NUMBER, self._true, self._false, self._null]
        choices.append(self._several("[", name, "]"))
        choices.append(self._several("{", self._member(name), "}"))
        return self._grammar.rule(name, one_of(choices))

    def _constant(self, value: Any) -> str:
        if value is None or isinstance(value, bool):
            return self._null if value is None else self._true if value else self._false
        if isinstance(value, int | float):
            return quoted(json.dumps(value))
        self._parameters.refuse("enum")
        return self._any()
