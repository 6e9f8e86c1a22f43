"""How similar vectors are."""

import math
from collections.abc import Sequence


def cosines(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """The cosine of each pair of vectors. Shape [N, N]; 0 for a vector of zeros."""
    units = [_unit(vector) for vector in vectors]
    return [[sum(map(_product, a, b)) for b in units] for a in units]


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


def _product(a: float, b: float) -> float:
    return a * b
