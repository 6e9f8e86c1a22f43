"""Long tables of cases: some run in ``make test``, all in ``make test-all``."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def some_of(cases: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """All ``cases`` as parameters; those that are not in ``kept`` are marked ``exhaustive``.

    Raises:
        ValueError: ``kept`` has what is no case.
    """
    cases = list(cases)
    if unknown := [case for case in kept if case not in cases]:
        raise ValueError(f"no cases: {unknown}")
    return [
        case if case in kept else pytest.param(case, marks=pytest.mark.exhaustive)
        for case in cases
    ]
