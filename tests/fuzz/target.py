"""A target of coverage-guided fuzzing."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """``modules`` are instrumented: fuzzing looks for inputs that reach more of their code."""

    name: str
    modules: tuple[str, ...]
    make: Callable[[], Callable[[bytes], None]]
    seeds: Callable[[], list[bytes]]
