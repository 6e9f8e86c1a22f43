"""The number of tokens that fit after a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlxnode.server.errors import InvalidRequest


class TooLong(Exception):
    """A text has more tokens than the context. The message says how many, in words."""


@dataclass(frozen=True)
class Prompt:
    """The token ids of a prompt, and the number of tokens that may be generated after them.

    ``borders``: the numbers of tokens after which other prompts may part, ascending.
    ``is_clamped``: the request asked for more tokens than there is room for.
    """

    ids: list[int]
    max_tokens: int
    borders: Sequence[int] = ()
    is_clamped: bool = False


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

    Agents ask for tens of thousands of tokens, whatever the prompt: the answer gets those that
    fit. A minimum of tokens (``min_tokens``) ends there, too. ``param`` is the parameter of the
    request that holds the prompt.

    Raises:
        InvalidRequest: the prompt is too long: no token fits after it.
    """
    room = context_length - len(ids)
    if room >= 1:
        is_clamped = requested is not None and requested > room
        return Prompt(ids, min(requested or default or room, room), borders, is_clamped)
    raise refusal(f"{len(ids)} tokens", context_length, param)


def refusal(tokens: str, context_length: int, param: str) -> InvalidRequest:
    """The error for a prompt of as many ``tokens`` as it says, in words."""
    return InvalidRequest(
        f"This model's maximum context length is {context_length} tokens. However, your "
        f"{param} resulted in {tokens}, and the completion needs at least 1. Please "
        f"reduce the length of the {param}.",
        param=param,
        code="context_length_exceeded",
    )
