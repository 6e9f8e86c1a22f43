"""Writes the answers of ``/v1/completions``."""

from mlxnode.messages import Token
from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import Delta, ScoredToken
from mlxnode.server.formats.completions.answers import TextChoice, TextCompletion, TextLogprobs
from mlxnode.server.formats.usage import Usage
from mlxnode.server.formats.writer import LEAST_LOGPROB, _Identity
from mlxnode.server.prompt.token_text import TokenText


class TextFormat(_Identity):
    """Bodies of ``/v1/completions``."""

    def __init__(
        self,
        served: ServedModel,
        *,
        include_usage: bool,
        logprobs_of: TokenText | None = None,
    ):
        super().__init__(served, "cmpl-", include_usage=include_usage, logprobs_of=logprobs_of)

    def whole(self, deltas: list[Delta], usage: Usage) -> TextCompletion:
        choices = [self._choice(delta) for delta in deltas]
        return TextCompletion(**self._shared, choices=choices, usage=usage)

    def opening(self) -> list[TextCompletion]:
        return []

    def chunks(self, delta: Delta) -> list[TextCompletion]:
        return [self._chunk(self._choice(delta))]

    def closing(self, usage: Usage) -> list[TextCompletion]:
        if not self._include_usage:
            return []
        return [TextCompletion(**self._shared, choices=[], usage=usage)]

    def _chunk(self, choice: TextChoice) -> TextCompletion:
        return TextCompletion(**self._shared, choices=[choice], usage=self._no_usage)

    def _choice(self, delta: Delta) -> TextChoice:
        logprobs = None if self._token_text is None else self._logprobs(delta.tokens)
        return TextChoice(delta.index, delta.reply.content, delta.finish_reason, logprobs)

    def _logprobs(self, tokens: list[ScoredToken]) -> TextLogprobs:
        return TextLogprobs(
            tokens=[self._name(scored.token.id) for scored in tokens],
            token_logprobs=[
                None if logprob is None else max(logprob, LEAST_LOGPROB)
                for logprob in (scored.token.logprob for scored in tokens)
            ],
            top_logprobs=[self._top(scored.token) for scored in tokens],
            text_offset=[scored.offset for scored in tokens],
        )

    def _top(self, token: Token) -> dict[str, float] | None:
        """The most likely tokens, and the one that came, as OpenAI does."""
        if token.logprob is None:
            return None
        top = (token.top_logprobs or {}) | {token.id: token.logprob}
        return {self._name(i): max(value, LEAST_LOGPROB) for i, value in top.items()}

    def _name(self, token: int) -> str:
        """The token's text; of one that is a part of a character, its bytes, as OpenAI does."""
        data = self._token_text.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
