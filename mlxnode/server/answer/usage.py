"""The token counts of one request, free of any wire format."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """Exact counts; a stop token that ends a text is counted, because it was generated.

    ``cached`` tokens are a part of ``prompt``, ``reasoning`` tokens a part of ``completion``.
    """

    prompt: int
    cached: int
    completion: int
    reasoning: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


NOTHING = TokenCounts(prompt=0, cached=0, completion=0, reasoning=0)
