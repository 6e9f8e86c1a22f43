"""Encodes texts of any length with an object of the tokenizers package, in bounded work.

Unlike ``encode``, ``encode_batch`` releases the GIL. A batch takes all threads of the package
until its end, so that the batches of others wait: long lists are encoded in slices.
"""

from collections.abc import Iterator, Sequence
from typing import Any

SLICE = 100_000  # characters of a batch; one text may be longer
_PER_TOKEN = 6  # characters: more than most texts have
_MARGIN = 16  # tokens that depend on what stands behind them, at most


def encode_all(backend: Any, texts: Sequence[str], *, special: bool) -> Iterator[Any]:
    """The encoding of each text; ``special``: with the tokens that are put around a text."""
    for slice in slices(texts):
        yield from backend.encode_batch(slice, add_special_tokens=special)


def slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """``texts`` in slices of about ``SLICE`` characters."""
    slice: list[str] = []
    size = 0
    for text in texts:
        if slice and size + len(text) > SLICE:
            yield slice
            slice, size = [], 0
        slice.append(text)
        size += len(text)
    if slice:
        yield slice


def shortened(backend: Any, text: str, limit: int, *, start: bool = False) -> str:
    """A part of ``text`` with its first ``limit`` tokens and some more; or the whole text.

    ``start``: the start is left out, and the part has the last tokens. Texts are looked at as
    far as it takes, and those that cannot have more tokens not at all.
    """
    length = (limit + _MARGIN) * _PER_TOKEN
    while length < len(text):
        part = text[-length:] if start else text[:length]
        [encoding] = backend.encode_batch([part], add_special_tokens=False)
        if len(encoding) >= limit + _MARGIN:
            return part
        length *= 4
    return text


def least_tokens(backend: Any, text: str, limit: int) -> int | None:
    """How many tokens ``text`` has at least, if they are surely more than ``limit``.

    None if only the encoding of the whole text can tell.
    """
    part = shortened(backend, text, limit + _MARGIN)
    return None if part is text else limit + 1
