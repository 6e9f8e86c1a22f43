"""The fields of a request that give its answer a form, as each server spells them."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import JsonObject, NonEmpty
from mlxnode.server.formats.response_format import ANY_OBJECT, ResponseFormat

Choices = Annotated[list[NonEmpty], Field(min_length=1, max_length=1000)]


class StructuredOutputs(Body):
    """vLLM's form of an answer: one of these fields."""

    json_: Annotated[JsonObject | None, Field(alias="json")] = None
    regex: NonEmpty | None = None
    choice: Choices | None = None
    grammar: NonEmpty | None = None
    json_object: bool | None = None

    neutral: ClassVar = {"structural_tag": ()}
    harmless: ClassVar = {
        "backend": (),
        "disable_additional_properties": (),
        "disable_any_whitespace": (),
        "disable_fallback": (),
        "whitespace_pattern": (),
    }


class StructuredFields(Body):
    """OpenAI's ``response_format``, and the fields of vLLM, llama.cpp and Ollama."""

    response_format: ResponseFormat | None = None
    guided_json: JsonObject | None = None
    guided_regex: NonEmpty | None = None
    guided_choice: Choices | None = None
    guided_grammar: NonEmpty | None = None
    structured_outputs: StructuredOutputs | None = None
    json_schema: JsonObject | None = None
    grammar: str | None = None  # "": none
    format: Literal["json", ""] | JsonObject | None = None

    harmless: ClassVar = {
        "guided_decoding_backend": (),
        "guided_whitespace_pattern": (),
    }


def structured_constraints(body: StructuredFields) -> list[Constraint]:
    """The constraints that the fields set.

    Raises:
        InvalidRequest: a constraint is too large, or a grammar cannot be read.
    """
    outputs = body.structured_outputs or StructuredOutputs()
    is_json = body.format == "json"
    given: list[tuple[str, Any, Callable[[Any, str], Constraint]]] = [
        ("guided_json", body.guided_json, Constraint.json),
        ("guided_regex", body.guided_regex, Constraint.regex),
        ("guided_choice", body.guided_choice, Constraint.choice),
        ("guided_grammar", body.guided_grammar, Constraint.of_grammar),
        ("structured_outputs.json", outputs.json_, Constraint.json),
        ("structured_outputs.regex", outputs.regex, Constraint.regex),
        ("structured_outputs.choice", outputs.choice, Constraint.choice),
        ("structured_outputs.grammar", outputs.grammar, Constraint.of_grammar),
        ("structured_outputs", ANY_OBJECT if outputs.json_object else None, Constraint.json),
        ("json_schema", body.json_schema, Constraint.json),
        ("grammar", body.grammar or None, Constraint.of_grammar),
        ("format", ANY_OBJECT if is_json else body.format or None, Constraint.json),
    ]
    constraints = [make(value, name) for name, value, make in given if value is not None]
    form = None if body.response_format is None else body.response_format.constraint
    return constraints if form is None else [form, *constraints]
