"""The base of all request bodies.

JSON null means unset for every optional field. A field that a body does not declare is
``neutral`` (OpenAI documents it; the server accepts the values that change nothing, and
refuses others) or unknown (tolerated, and named in a response header).
"""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.config import JsonDict

from mlxnode.server.formats.rules import Rule

ANY = object()  # in ``neutral``: every value is accepted, as none of them changes the answer


def _complete_schema(schema: dict[str, Any], body: type["Body"]) -> None:
    """Add the neutral fields and the rules between fields to a JSON schema."""
    for name, values in body.neutral.items():
        schema["properties"][name] = {} if ANY in values else {"enum": [*values, None]}
    clauses: list[JsonDict] = [rule.clause for rule in body.rules if rule.in_schema]
    if clauses:
        schema["allOf"] = clauses


class Body(BaseModel):
    """Base of every request: strict types, unknown fields tolerated."""

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, json_schema_extra=_complete_schema
    )
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _follow_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                value = getattr(self, rule.param)
                raise ValidationError.from_exception_data(
                    type(self).__name__,
                    [{"type": rule.error, "loc": (rule.param,), "input": value}],
                )
        return self
