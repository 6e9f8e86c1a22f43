"""Who makes room for a model that is to be loaded. Plain Python, without mlx."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Loaded = TypeVar("Loaded")


def fewest_to_unload(
    ordered: Sequence[Loaded], fits_without: Callable[[Sequence[Loaded]], bool]
) -> list[Loaded] | None:
    """Whom to unload so that ``fits_without`` them is true; None if all are not enough.

    The first of ``ordered`` go first. Whose memory is not needed in the end stays: the last
    ones rather than the first.
    """
    going: list[Loaded] = []
    rest = iter(ordered)
    while not fits_without(going):
        following = next(rest, None)
        if following is None:
            return None
        going.append(following)
    for candidate in reversed(list(going)):
        others = [each for each in going if each is not candidate]
        if fits_without(others):
            going = others
    return going
