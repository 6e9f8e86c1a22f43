"""One text or several texts, each as a string or as token ids."""

TextOrTokens = str | list[str] | list[int] | list[list[int]]


def as_texts(inputs: TextOrTokens) -> list[str]:
    """The texts of ``inputs``; empty if they are token ids."""
    match inputs:
        case str():
            return [inputs]
        case [str(), *_]:
            return inputs
    return []


def as_token_ids(inputs: TextOrTokens) -> list[list[int]]:
    """The token ids of ``inputs``; empty if they are texts."""
    match inputs:
        case [int(), *_]:
            return [inputs]
        case [list(), *_]:
            return inputs
    return []
