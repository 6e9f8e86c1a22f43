"""Writes the answers of ``/v1/completions``."""

from msgspec import UNSET, UnsetType

from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice
from mlxnode.server.answer.events import content_of
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.formats.completions.answers import TextChoice, TextCompletion
from mlxnode.server.formats.completions.logprobs import LogprobWriter
from mlxnode.server.formats.usage import Usage
from mlxnode.server.formats.writer import AnswerIdentity
from mlxnode.token_bytes import TokenBytes


class CompletionWriter(AnswerWriter):
    """Writes the answer to one completion request."""

    def __init__(
        self,
        served: ServedModel,
        *,
        include_usage: bool,
        token_bytes: TokenBytes | None = None,
    ):
        """``token_bytes``: the bytes of tokens, if the answer reports log-probabilities."""
        self._identity = AnswerIdentity.new("cmpl-", served)
        self._include_usage = include_usage
        self._logprob_writer = None if token_bytes is None else LogprobWriter(token_bytes)

    def response(self, choices: list[FinishedChoice], usage: TokenCounts) -> TextCompletion:
        return self._completion([self._choice(choice) for choice in choices], Usage.of(usage))

    def opening_chunks(self, usage: TokenCounts) -> list[TextCompletion]:
        return []

    def chunks(self, delta: ChoiceDelta) -> list[TextCompletion]:
        return [self._chunk([self._choice(delta)], None)]

    def closing_chunks(self, usage: TokenCounts) -> list[TextCompletion]:
        return [self._chunk([], Usage.of(usage))] if self._include_usage else []

    def _chunk(self, choices: list[TextChoice], usage: Usage | None) -> TextCompletion:
        # With include_usage, all chunks have the field, but only the last has counts.
        return self._completion(choices, usage if self._include_usage else UNSET)

    def _completion(
        self, choices: list[TextChoice], usage: Usage | UnsetType | None
    ) -> TextCompletion:
        return TextCompletion(
            id=self._identity.id,
            created=self._identity.created,
            model=self._identity.model,
            system_fingerprint=self._identity.system_fingerprint,
            choices=choices,
            usage=usage,
        )

    def _choice(self, delta: ChoiceDelta) -> TextChoice:
        reason, writer = delta.finish_reason, self._logprob_writer
        return TextChoice(
            index=delta.index,
            text=content_of(delta.events),
            finish_reason="stop" if reason == "tool_calls" else reason,  # text has no calls
            logprobs=None if writer is None else writer.write(delta.tokens),
        )
