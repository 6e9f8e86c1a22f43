"""A grammar under construction: rules in Lark, JSON schemas, and the markers of a model."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mlxnode.server.constraints.constraint import lark_part
from mlxnode.server.constraints.markers import MarkerTokens, quoted

ANY = "(?s:.*)"  # a regex of any text
_MAX_NAMES = 200


class LarkGrammar:
    """Rules that refer to each other by name, and JSON schemas beside them.

    Expressions are in Lark's syntax; "" is the empty one.
    """

    def __init__(self, tokens: MarkerTokens):
        self.tokens = tokens
        self._rules: dict[str, str] = {}
        self._parts: list[dict[str, Any]] = []
        self._num_names = 0

    def literal(self, *texts: str) -> str:
        """Exactly these texts, with the model's tokens for the markers in them.

        ``Plain`` ones are spelled without markers.
        """
        return self.tokens.spell(*texts)

    def rule(self, name: str, expression: str) -> str:
        """Define ``name``, once; returns the name. ``[options]`` and ``::_`` may follow it."""
        self._rules.setdefault(name, expression or '""')
        return name.split("[")[0].split("::")[0]

    def new_name(self, kind: str) -> str | None:
        """The start of names that no other rule has; None after very many."""
        self._num_names += 1
        return f"{kind}_{self._num_names}_" if self._num_names <= _MAX_NAMES else None

    def text_until(self, name: str, regex: str, end: str) -> str:
        """A text that matches ``regex``, up to the first ``end``, which belongs to it."""
        before, marker, after = self.tokens.split(end)
        if marker:
            body = f"/{regex}/ {quoted(before)}" if before else f"/{regex}/"
            terminal = self.rule(name.upper(), body)
            return sequence([terminal, self.literal(marker + after)])
        return self.lazy(name, f"/{regex}/ {quoted(end)}")

    def lazy(self, name: str, body: str) -> str:
        """A terminal that ends as soon as it can."""
        self.rule(f"{name}[lazy]", body)
        return name

    def part(self, part: Mapping[str, Any]) -> str:
        """A whole grammar of llguidance's list."""
        name = f"part_{len(self._parts)}"
        self._parts.append({"name": name, **part})
        return f"@{name}"

    def dump(self) -> str:
        """The grammar in llguidance's JSON form; it starts at the rule ``start``."""
        lark = "\n".join(f"{name}: {body}" for name, body in self._rules.items())
        return json.dumps({"grammars": [lark_part(lark), *self._parts]})


def sequence(expressions: Iterable[str]) -> str:
    """One expression after the other."""
    return " ".join(expression for expression in expressions if expression)


def one_of(expressions: Iterable[str]) -> str:
    """One of the expressions, in brackets if there are several."""
    different = [expression or '""' for expression in dict.fromkeys(expressions)]
    return different[0] if len(different) == 1 else f"({' | '.join(different)})"
