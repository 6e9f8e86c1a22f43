"""The base of all request bodies, and the rule for their fields.

- What changes nothing about the answer is accepted, and named in a response header: the
  fields that no body declares (unknown), and those that are ``harmless``.
- What others spell in another way is understood: ``spellings`` of names, and values of another
  type that can mean only one thing (``loose``).
- What would change the answer and cannot be done is refused by name: the fields that are
  ``neutral`` accept only the values that change nothing.

JSON null means unset for every optional field.
"""

from typing import Any, ClassVar, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema

from mlxnode.server.formats.rules import Rule, value_of

ANY = object()  # in ``neutral`` and ``harmless``: every value, as none needs a word


def _complete_schema(schema: dict[str, Any], body: type["Body"]) -> None:
    """Add the fields that are not declared, and the rules between fields, to a JSON schema."""
    properties = schema.setdefault("properties", {})
    for name, values in body.neutral.items():
        properties[name] = {} if ANY in values else {"enum": [*values, None]}
    properties |= {name: {} for name in body.harmless}
    properties |= {name: properties[own] for name, own in body.spellings.items()}
    clauses: list[JsonDict] = [rule.clause for rule in body.rules if rule.in_schema]
    if clauses:
        schema["allOf"] = clauses


def _fail_fast(schema: Any) -> None:
    """Let every list within a core schema of pydantic end at its first invalid item.

    Nobody reads the errors of the others: one object for each of a million items is memory.
    """
    todo: list[Any] = [schema]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            fields = cast(dict[str, Any], part)
            if fields.get("type") == "list":
                fields["fail_fast"] = True
            todo += fields.values()
        elif isinstance(part, (list, tuple)):
            todo += part


class Body(BaseModel):
    """Base of every request: strict types, unknown fields tolerated.

    ``neutral``: fields with the values that are accepted; others are refused. ``harmless``:
    fields of which every value is accepted; all but the listed ones are named in the header.
    ``spellings``: other names of own fields. ``exact``: fields within which no value of another
    type is understood. Only the body of a whole request has these two.
    """

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, json_schema_extra=_complete_schema
    )
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}
    harmless: ClassVar[dict[str, tuple[Any, ...]]] = {}
    spellings: ClassVar[dict[str, str]] = {}
    exact: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        _fail_fast(schema)
        return schema

    @model_validator(mode="after")
    def _follow_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                value = value_of(self, rule.param)
                raise ValidationError.from_exception_data(
                    type(self).__name__,
                    [{"type": rule.error, "loc": (rule.param,), "input": value}],
                )
        return self

    @property
    def idle(self) -> list[str]:
        """The declared fields that change nothing, given the others; the header names them."""
        return []

    @classmethod
    def respelled(cls, raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """``raw`` by the names of own fields, and the name that was sent for each of them.

        A field that is sent by its own name, too, keeps that value.
        """
        sent: dict[str, str] = {}
        own = {name: value for name, value in raw.items() if name not in cls.spellings}
        for name, field in cls.spellings.items():
            if raw.get(name) is not None and own.get(field) is None:
                own[field], sent[field] = raw[name], name
        return own, sent

    @classmethod
    def unread(cls, raw: dict[str, Any], own: dict[str, Any]) -> dict[str, str]:
        """The other names in ``raw`` whose values are not those of the respelled ``own``."""
        return {
            name: field
            for name, field in cls.spellings.items()
            if raw.get(name) is not None and raw[name] != own[field]
        }
