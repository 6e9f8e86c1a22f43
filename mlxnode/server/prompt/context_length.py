"""The number of tokens that fit after a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlxnode.server.errors import InvalidRequest


@dataclass(frozen=True)
class Prompt:
    """The token ids of a prompt, and the number of tokens that may be generated after them.

    ``borders``: the numbers of tokens after which other prompts may part, ascending.
    """

    ids: list[int]
    max_tokens: int
    borders: Sequence[int] = ()


def fit_prompt(
    ids: list[int],
    context_length: int,
    *,
    requested: int | None,
    default: int | None = None,
    borders: Sequence[int] = (),
    param: str,
) -> Prompt:
    """The prompt with ``requested`` tokens after it; by default, ``default`` or all that fit.

    ``param`` is the request parameter that holds the prompt.

    Raises:
        InvalidRequest: the prompt, or the prompt with the requested tokens, is too long.
    """
    room = context_length - len(ids)
    if room >= (requested or 1):
        return Prompt(ids, requested or min(room, default or room), borders)
    wanted = f"{len(ids)} in the {param}"
    if requested is not None:
        wanted += f", {requested} in the completion"
    raise InvalidRequest(
        f"This model's maximum context length is {context_length} tokens. However, you "
        f"requested {len(ids) + (requested or 1)} tokens ({wanted}). Please reduce the length "
        f"of the {param}{' or completion' if requested else ''}.",
        param=param,
        code="context_length_exceeded",
    )
