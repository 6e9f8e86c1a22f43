"""The constraint of a request: vLLM's ``guided_*`` parameters, or the format's own."""

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.generation import GenerationBody


def guided_constraints(body: GenerationBody) -> list[Constraint]:
    """The constraints that the ``guided_*`` parameters set.

    Raises:
        InvalidRequest: a constraint is too large.
    """
    constraints = []
    if body.guided_json is not None:
        constraints.append(Constraint.json(body.guided_json, "guided_json"))
    if body.guided_regex is not None:
        constraints.append(Constraint.regex(body.guided_regex, "guided_regex"))
    if body.guided_choice is not None:
        constraints.append(Constraint.choice(body.guided_choice, "guided_choice"))
    if body.guided_grammar is not None:
        constraints.append(Constraint.lark(body.guided_grammar, "guided_grammar"))
    return constraints


def single_constraint(constraints: list[Constraint]) -> Constraint | None:
    """The only constraint of a request, if it has one.

    Raises:
        InvalidRequest: there are several.
    """
    if len(constraints) > 1:
        first, second = (constraint.param.partition(".")[0] for constraint in constraints[:2])
        raise InvalidRequest(
            f"Set {first} or {second}, not both",
            param=second,
            code="invalid_parameter_combination",
        )
    return constraints[0] if constraints else None
