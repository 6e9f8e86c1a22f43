"""Log-probabilities in the answers of ``/v1/completions``."""

from collections.abc import Sequence

from mlxnode.messages.data import Token
from mlxnode.server.answer.choice import ScoredToken
from mlxnode.server.formats.completions.answers import TextLogprobs
from mlxnode.server.formats.writer import MIN_LOGPROB
from mlxnode.token_bytes import TokenBytes


class LogprobWriter:
    """Writes tokens as parallel lists: text, log-probability, alternatives and offset."""

    def __init__(self, token_bytes: TokenBytes):
        self._token_bytes = token_bytes

    def write(self, tokens: Sequence[ScoredToken]) -> TextLogprobs:
        logprobs = [scored.token.logprob for scored in tokens]
        return TextLogprobs(
            tokens=[self._text(scored.token.id) for scored in tokens],
            token_logprobs=[
                None if logprob is None else max(logprob, MIN_LOGPROB) for logprob in logprobs
            ],
            top_logprobs=[self._top(scored.token) for scored in tokens],
            text_offset=[scored.offset for scored in tokens],
        )

    def _top(self, token: Token) -> dict[str, float] | None:
        """The most likely tokens and, as OpenAI does, the sampled token."""
        if token.logprob is None:
            return None
        top = (token.top_logprobs or {}) | {token.id: token.logprob}
        return {self._text(id): max(value, MIN_LOGPROB) for id, value in top.items()}

    def _text(self, token: int) -> str:
        """The token's text or, as OpenAI does, the bytes of an incomplete character."""
        data = self._token_bytes.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
