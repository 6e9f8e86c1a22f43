"""One answer of the model as it grows, from the engine's tokens to what the client is told."""

from dataclasses import dataclass, field

from mlxnode.messages import FinishReason, Token, Update
from mlxnode.server.answer.stop_strings import StopStrings
from mlxnode.server.formats.chat.answers import ChatFinishReason
from mlxnode.server.notation.output_parser import OutputDelta, OutputParser
from mlxnode.server.registry import TextModel


@dataclass(frozen=True)
class ScoredToken:
    """A token with its log-probability, and where it begins in the text of the choice."""

    token: Token
    offset: int  # characters


@dataclass(frozen=True)
class Delta:
    """What is new of one choice; the one with a ``finish_reason`` is its last.

    ``tokens``, if asked for, are those that came with it: all that the model generated, its
    reasoning and the text of its tool calls included.
    """

    index: int
    reply: OutputDelta
    finish_reason: ChatFinishReason | None
    tokens: list[ScoredToken] = field(default_factory=list)


class Choice:
    """One answer: its tokens counted, turned into text, told apart, watched for its end."""

    def __init__(
        self,
        model: TextModel,
        prompt: list[int],
        stops: list[str],
        *,
        reader: OutputParser | None = None,
        scores: bool = False,
        echo: bool = False,
        is_empty: bool = False,
    ):
        """``reader``: tells reasoning and tool calls from the rest; ``scores``: keep
        log-probabilities; ``echo``: begin with the prompt; ``is_empty``: nothing is to follow
        it, whatever the engine generates."""
        self._tokenizer = model.tokenizer
        self._prompt = prompt
        self._detokenizer = model.tokenizer.detokenizer(prompt)
        self._reader = reader
        self._stops = StopStrings(stops)  # of the content: the rest is not written for clients
        self._scores = scores
        self._echo = echo
        self._is_empty = is_empty
        self._length = 0  # characters that the tokens so far gave
        self._reply = OutputDelta()  # what has not been taken yet, like the next one
        self._scored: list[ScoredToken] = []
        self.num_tokens = 0  # generated, those that a stop string cut off included
        self.num_reasoning_tokens = 0
        self.num_cached_tokens = 0  # of the prompt
        self.total_logprob = 0.0
        self.finish_reason: ChatFinishReason | None = None

    def feed(self, update: Update) -> None:
        """Take an update."""
        self.num_cached_tokens = update.num_cached
        if self._echo:
            self._echo = False
            self._tell_prompt(update)
        if self._is_empty:
            self.finish_reason = "length"
            return
        for token in update.tokens:
            self.num_tokens += 1
            self.total_logprob += token.logprob or 0.0
            if self._scores:
                self._scored.append(ScoredToken(token, self._length))
            text = self._text_of(token.id)
            self._length += len(text)
            self._tell(text)
            if self.finish_reason is not None:
                return
        if update.finish is not None:
            # The stop token is not among ``tokens``, but was generated like the others.
            self.num_tokens += update.finish == "stop"
            self._end(update.finish)

    @property
    def has_news(self) -> bool:
        """Whether there is anything to tell: tokens need not complete any text."""
        return bool(self._reply) or self.finish_reason is not None

    def take(self, index: int) -> Delta:
        """What came since the last call."""
        reply, self._reply = self._reply, OutputDelta()
        scored, self._scored = self._scored, []
        return Delta(index, reply, self.finish_reason, scored)

    def _text_of(self, token: int) -> str:
        text = self._detokenizer.feed(token)
        if self._reader is not None:
            self.num_reasoning_tokens += self._reader.is_reasoning
            special = self._tokenizer.special_tokens.get(token)
            if special is not None and self._reader.wants(special):
                return special
        return text

    def _tell(self, text: str, *, is_last: bool = False) -> None:
        if self._reader is None:
            self._reply.content += self._stops.feed(text)
        else:
            reply = self._reader.feed(text, is_last=is_last)
            reply.content = self._stops.feed(reply.content)
            self._reply.add(reply)
            if self._reader.is_finished:
                self.finish_reason = "tool_calls"
        if self._stops.is_matched:
            self.finish_reason = "stop"

    def _end(self, reason: FinishReason) -> None:
        self._tell("", is_last=True)
        self._reply.content += self._stops.flush()
        if self.finish_reason is None:
            has_called = self._reader is not None and self._reader.num_calls > 0
            self.finish_reason = "tool_calls" if has_called and reason == "stop" else reason

    def _tell_prompt(self, update: Update) -> None:
        """The prompt's text; its tokens are scored by the first update."""
        if self._scores:
            self._score_prompt(update.prompt or [])
        text = self._tokenizer.decode(self._prompt)
        self._length = len(text)
        self._reply.content = text

    def _score_prompt(self, tokens: list[Token]) -> None:
        detokenizer, offset = self._tokenizer.detokenizer([]), 0
        for token in tokens:
            self._scored.append(ScoredToken(token, offset))
            offset += len(detokenizer.feed(token.id))
