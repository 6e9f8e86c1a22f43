"""The grammar of arguments that are written one by one, each between markers of its own."""

from typing import Any

from mlxnode.server.constraints.constraint import prepared_part
from mlxnode.server.constraints.lark import ANY, LarkGrammar, one_of, sequence
from mlxnode.server.constraints.literals import LiteralValues
from mlxnode.server.constraints.markers import Plain, quoted
from mlxnode.server.constraints.members import members
from mlxnode.server.constraints.properties import ANY_VALUE, Parameters, Value, value_of
from mlxnode.server.notation.notation import TaggedArguments, ValueStyle

_KEY = "/[A-Za-z_][A-Za-z0-9_]{0,63}/"


class TaggedCalls:
    """Writes the rules of the arguments of one function."""

    def __init__(
        self, grammar: LarkGrammar, tagged: TaggedArguments, parameters: Parameters, prefix: str
    ):
        """``prefix`` starts the names of the rules."""
        self._grammar = grammar
        self._tagged = tagged
        self._parameters = parameters
        self._prefix = prefix

    def rules(self) -> str:
        """The rule of all arguments. No name comes twice, and the required ones all come."""
        properties = self._parameters.properties
        pairs = [
            self._grammar.rule(f"{self._prefix}pair_{i}", self._pair(i, name, schema))
            for i, (name, schema) in enumerate(properties.items())
        ]
        return members(
            self._grammar,
            self._prefix,
            pairs,
            self._parameters.required_numbers,
            separator=self._grammar.literal(self._tagged.separator),
            extra=self._extra_pair() if self._parameters.is_open else None,
        )

    # --- one argument ---------------------------------------------------------------

    def _pair(self, i: int, name: str, schema: Any) -> str:
        tagged = self._tagged
        if tagged.style is ValueStyle.JSON:
            head = self._head(name, tagged.before_value)
            after = self._grammar.literal(tagged.after_value)
            return sequence([*head, self._json(self._parameters.resolve(schema)), after])
        value = value_of(self._parameters, name, schema)
        if tagged.before_other_value is None:
            return sequence([*self._head(name, tagged.before_value), self._value(i, value)])
        # The marker before the value tells strings from other values.
        strings = Value(value.texts, value.min_length, value.max_length)
        others = Value((), others=value.others)
        choices = []
        if value.has_texts:
            head = self._head(name, tagged.before_value)
            choices.append(sequence([*head, self._value(i, strings)]))
        if value.others is not None or not choices:
            head = self._head(name, tagged.before_other_value)
            choices.append(sequence([*head, self._value(i, others)]))
        return one_of(choices)

    def _head(self, name: str, before_value: str) -> list[str]:
        """What stands before a value."""
        tagged, literal = self._tagged, self._grammar.literal
        if not self._parameters.is_open:
            return [literal(tagged.before_key, Plain(name), before_value)]
        # Apart: where any name may come, the lexer has to see where a name ends.
        return [literal(tagged.before_key), quoted(name), literal(before_value)]

    def _extra_pair(self) -> str:
        """An argument that the schema does not name."""
        grammar, tagged = self._grammar, self._tagged
        known = " | ".join(map(quoted, self._parameters.properties))
        key = f"{self._prefix}KEY".upper()
        grammar.rule(key, f"{_KEY} & ~({known})" if known else _KEY)
        expression = sequence(
            [
                grammar.literal(tagged.before_key),
                key,
                grammar.literal(tagged.before_value),
                self._value("extra", ANY_VALUE),
            ]
        )
        return grammar.rule(f"{self._prefix}extra", expression)

    def _value(self, i: int | str, value: Value) -> str:
        """A value with what stands after it."""
        if self._tagged.style is ValueStyle.TEXT:
            return self._text_value(i, value)
        after = self._grammar.literal(self._tagged.after_value)
        if self._tagged.style is ValueStyle.JSON:
            return sequence([self._json({}), after])  # of an argument without a schema
        literals = LiteralValues.of(self._tagged.style, self._grammar, self._parameters)
        return sequence([literals.value(value), after])

    def _text_value(self, i: int | str, value: Value) -> str:
        after = self._tagged.after_value
        if value.texts is None:
            # Any other value is a text as well: the schema tells which it is.
            if value.others is not None or (not value.min_length and value.max_length is None):
                return self._grammar.text_until("text_value", ANY, after)
            high = "" if value.max_length is None else value.max_length
            regex = f"(?s:.{{{value.min_length},{high}}})"
            return self._grammar.text_until(f"{self._prefix}text_{i}", regex, after)
        choices = [self._grammar.literal(Plain(text), after) for text in value.texts]
        if value.others is not None:
            others = self._json(value.others)
            choices.append(sequence([others, self._grammar.literal(after)]))
        return one_of(choices)

    def _json(self, schema: Any) -> str:
        return self._grammar.part(prepared_part({**self._parameters.definitions, **schema}))
