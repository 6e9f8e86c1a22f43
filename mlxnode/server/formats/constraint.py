"""The one constraint of a request, of all that set a form of the answer."""

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.errors import InvalidRequest


def single_constraint(constraints: list[Constraint]) -> Constraint | None:
    """The only constraint of a request, if it has one; clients say the same in two ways.

    Raises:
        InvalidRequest: there are several.
    """
    different = [c for c in constraints if not _is_same(c, constraints[0])]
    if different:
        first, second = constraints[0].param, different[0].param
        if first.partition(".")[0] != second.partition(".")[0]:
            first, second = first.partition(".")[0], second.partition(".")[0]
        raise InvalidRequest(
            f"Set {first} or {second}, not both",
            param=second,
            code="invalid_parameter_combination",
        )
    return constraints[0] if constraints else None


def _is_same(one: Constraint, other: Constraint) -> bool:
    return (one.grammar, one.schema) == (other.grammar, other.schema)
