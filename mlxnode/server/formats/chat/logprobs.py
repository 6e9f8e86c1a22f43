"""Log-probabilities in the answers of ``/v1/chat/completions``."""

from collections.abc import Sequence

from mlxnode.server.answer.choice import ScoredToken
from mlxnode.server.formats.chat.answers import ChatLogprobs, TokenLogprob, TopLogprob
from mlxnode.server.formats.writer import MIN_LOGPROB
from mlxnode.token_bytes import TokenBytes


class LogprobWriter:
    """Writes tokens with their text, their bytes and their log-probabilities."""

    def __init__(self, token_bytes: TokenBytes):
        self._token_bytes = token_bytes

    def write(self, tokens: Sequence[ScoredToken]) -> ChatLogprobs:
        # Only the first token of a prompt has no logprob; a chat answer has no prompt tokens.
        return ChatLogprobs(
            [
                self._token(scored.token.id, scored.token.logprob, scored.token.top_logprobs)
                for scored in tokens
                if scored.token.logprob is not None
            ]
        )

    def _token(self, id: int, logprob: float, top: dict[int, float] | None) -> TokenLogprob:
        alternatives = [
            TopLogprob(*self._fields(other, value)) for other, value in (top or {}).items()
        ]
        return TokenLogprob(*self._fields(id, logprob), alternatives)

    def _fields(self, id: int, logprob: float) -> tuple[str, float, list[int]]:
        data = self._token_bytes.bytes_of(id)
        return data.decode(errors="replace"), max(logprob, MIN_LOGPROB), list(data)
