"""Rules between the fields of a body: one statement gives the check and the JSON schema.

In a rule, an absent field and a null field are the same: both have the value None.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from pydantic.config import JsonDict, JsonValue
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.loose import spellings_of


def value_of(body: Any, name: str) -> Any:
    """The value of a field; a name that pydantic uses itself has an underscore there."""
    own = f"{name}_"
    return getattr(body, own if own in type(body).model_fields else name)


@dataclass(frozen=True)
class Condition:
    """The field ``name`` has one of ``values``; if ``is_negated``, it has none of them."""

    name: str
    values: tuple[JsonValue, ...]
    is_negated: bool = False

    def holds(self, body: Any) -> bool:
        return (value_of(body, self.name) in self.values) != self.is_negated

    @property
    def clause(self) -> JsonDict:
        """The condition as a JSON schema of the whole body."""
        loose = (spelling for value in self.values for spelling in spellings_of(value))
        values: JsonDict = {"enum": [*self.values, *loose]}
        field: JsonDict = {"not": values} if self.is_negated else values
        clause: JsonDict = {"properties": {self.name: field}}
        if (None in self.values) == self.is_negated:
            clause["required"] = [self.name]
        return clause


@dataclass(frozen=True)
class Given:
    """The field ``name`` is there; it may be null."""

    name: str

    def holds(self, body: Any) -> bool:
        return self.name in body.model_fields_set

    @property
    def clause(self) -> JsonDict:
        return {"required": [self.name]}


def one_of(name: str, *values: JsonValue) -> Condition:
    return Condition(name, values)


def none_of(name: str, *values: JsonValue) -> Condition:
    return Condition(name, values, is_negated=True)


@dataclass(frozen=True)
class Rule(ABC):
    """A rule between the fields of a body.

    A body that breaks the rule is refused with an error that names the field ``param``.
    A rule that is not ``in_schema`` is only checked: a schema with clauses for all rules has
    more alternatives than generators of test data can keep apart.
    """

    param: str
    code: LiteralString
    problem: str
    in_schema: bool

    @property
    def error(self) -> PydanticCustomError:
        return PydanticCustomError(self.code, "{problem}", {"problem": self.problem})

    @abstractmethod
    def holds(self, body: Any) -> bool:
        """True if ``body`` follows the rule. The single fields of ``body`` are valid."""

    @property
    @abstractmethod
    def clause(self) -> JsonDict:
        """The rule as a JSON schema of the whole body."""


@dataclass(frozen=True)
class AnyOf(Rule):
    """At least one of the conditions holds."""

    conditions: tuple[Condition | Given, ...]

    def holds(self, body: Any) -> bool:
        return any(condition.holds(body) for condition in self.conditions)

    @property
    def clause(self) -> JsonDict:
        return {"anyOf": [condition.clause for condition in self.conditions]}


@dataclass(frozen=True)
class Spelled(AnyOf):
    """The first condition holds; in the schema, the others are spellings of the same field."""

    def holds(self, body: Any) -> bool:
        return self.conditions[0].holds(body)


@dataclass(frozen=True)
class AtLeast(Rule):
    """The number ``param``, if set, is not below the number ``other``; unset, that is 1."""

    other: str
    max_other: int

    def holds(self, body: Any) -> bool:
        number = getattr(body, self.param)
        return number is None or number >= (getattr(body, self.other) or 1)

    @property
    def clause(self) -> JsonDict:
        # A JSON schema cannot compare two fields: each value of ``other`` is a case.
        cases: list[JsonValue] = [
            one_of(self.param, None).clause,
            one_of(self.other, 1, None).clause,
        ]
        for least in range(2, self.max_other + 1):
            same: JsonDict = {"enum": [least, *spellings_of(least)]}
            fields: JsonDict = {self.other: same, self.param: {"minimum": least}}
            cases.append({"properties": fields, "required": [self.other]})
        return {"anyOf": cases}


def needs(
    name: str,
    condition: Condition,
    problem: str,
    *,
    neutral: tuple[JsonValue, ...] = (),
    in_schema: bool = True,
) -> Rule:
    """The field ``name`` is set only where ``condition`` holds.

    Each of the ``neutral`` values is the same as unset. ``problem`` says in the error that
    the condition does not hold.
    """
    is_unset = one_of(name, *neutral, None)
    return AnyOf(
        name, "invalid_parameter_combination", problem, in_schema, (is_unset, condition)
    )


def required(*names: str, unless: Condition | None = None) -> Rule:
    """One of the fields is set unless the condition holds; the error names the first."""
    conditions = tuple(none_of(name, None) for name in names)
    if unless is not None:
        conditions = (unless, *conditions)
    return AnyOf(names[0], "missing", "Field required", True, conditions)


def required_in(name: str, spellings: Mapping[str, str]) -> Rule:
    """The field ``name`` is set, by its own name or by another of ``Body.spellings``."""
    others = (other for other, own in spellings.items() if own == name)
    conditions = tuple(none_of(spelling, None) for spelling in (name, *others))
    return Spelled(name, "missing", "Field required", True, conditions)


def given(name: str, *others: str, unless: Condition) -> Rule:
    """The field ``name`` is there, null or not, or another is set, or the condition holds."""
    conditions = (unless, Given(name), *(none_of(other, None) for other in others))
    return AnyOf(name, "missing", "Field required", True, conditions)


def at_least(name: str, other: str, *, max_other: int) -> Rule:
    """The number ``name``, if set, is not below ``other``, which is at most ``max_other``."""
    problem = f"must be at least {other}"
    return AtLeast(name, "integer_below_min_value", problem, True, other, max_other)
