"""One choice of an answer while it grows: from the engine's tokens to separated output."""

from typing import Literal

from msgspec import Struct

from mlxnode.messages import data
from mlxnode.messages.data import Token, Update
from mlxnode.server.answer.events import Event, EventLog
from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.answer.stop_strings import StopStrings
from mlxnode.server.parsing.output import OutputDelta
from mlxnode.server.prompt.context_length import Prompt

FinishReason = data.FinishReason | Literal["tool_calls"]


class ScoredToken(Struct, frozen=True):
    """A token with its log-probability, and its offset in the text of the choice."""

    token: Token
    offset: int  # characters
    is_reasoning: bool = False  # the thoughts and their markers


class ChoiceDelta(Struct, frozen=True, kw_only=True):
    """New output of one choice. The delta with a ``finish_reason`` is the last one.

    ``tokens``, if requested, are all generated tokens since the last delta, with those of the
    reasoning and of the tool calls. ``stop_string`` is what has ended the choice, if it was one
    of the request's stop strings.
    """

    index: int
    events: list[Event]
    finish_reason: FinishReason | None
    tokens: list[ScoredToken] = []
    stop_string: str | None = None


class FinishedChoice(ChoiceDelta, frozen=True, kw_only=True):
    """All the output of one choice."""

    finish_reason: FinishReason


class Choice:
    """One candidate: counts its tokens, turns them into text, parses it, finds its end."""

    def __init__(self, request: GenerationRequest, prompt: Prompt):
        self._request = request
        self._prompt = prompt
        self._tokenizer = request.model.tokenizer
        self._detokenizer = self._tokenizer.detokenizer(prompt.ids)
        self._parser = request.new_parser()
        # Of the content only: reasoning and calls are not written for the client to read.
        self._stops = StopStrings(request.stop_strings)
        self._has_started = False
        self._length = 0  # characters of all tokens so far
        self._log = EventLog()  # since the last delta was taken, like the scored tokens
        self._scored: list[ScoredToken] = []
        self.num_tokens = 0  # generated, with the tokens that a stop string cuts off
        self.num_reasoning_tokens = 0
        self.num_cached_tokens = 0  # of the prompt
        self.total_logprob = 0.0
        self.finish_reason: FinishReason | None = None

    def feed(self, update: Update) -> None:
        """Read the next tokens."""
        self.num_cached_tokens = update.num_cached
        if not self._has_started:
            self._has_started = True
            if self._request.echoes_prompt:
                self._emit_prompt(update)
        if self._request.discards_output:
            self.finish_reason = "length"
            return
        for token in update.tokens:
            self.num_tokens += 1
            self.total_logprob += token.logprob or 0.0
            offset, was_reasoning = self._length, self._parser.is_reasoning
            text, is_special = self._text_of(token.id)
            self._length += len(text)
            self._emit(self._parser.feed(text, is_special=is_special))
            if self._request.has_logprobs:
                is_reasoning = was_reasoning or self._parser.is_reasoning
                self._scored.append(ScoredToken(token, offset, is_reasoning))
            if self.finish_reason is not None:
                return
        if update.finish is not None:
            # The stop token is not among ``tokens``, but it was generated like the others.
            self.num_tokens += update.finish == "stop"
            self._end(update.finish)

    @property
    def has_news(self) -> bool:
        """True if there is new output or an end; new tokens may not complete any text."""
        return bool(self._log) or self.finish_reason is not None

    def take_delta(self, index: int) -> ChoiceDelta:
        """The output since the last delta, as choice ``index`` of the answer."""
        events, scored = self._take()
        return ChoiceDelta(
            index=index,
            events=events,
            finish_reason=self.finish_reason,
            tokens=scored,
            stop_string=self._stops.matched,
        )

    def take_whole(self, index: int, finish_reason: FinishReason) -> FinishedChoice:
        """All the output, as choice ``index`` of the answer."""
        events, scored = self._take()
        return FinishedChoice(
            index=index,
            events=events,
            finish_reason=finish_reason,
            tokens=scored,
            stop_string=self._stops.matched,
        )

    @property
    def mean_logprob(self) -> float:
        return self.total_logprob / max(self.num_tokens, 1)

    def _take(self) -> tuple[list[Event], list[ScoredToken]]:
        if self.finish_reason is not None:
            self._log.end_call()
        scored, self._scored = self._scored, []
        return self._log.take(), scored

    def _text_of(self, token: int) -> tuple[str, bool]:
        """The text that ``token`` completes, and whether it is a special token's."""
        text = self._detokenizer.feed(token)
        self.num_reasoning_tokens += self._parser.is_reasoning
        special = self._tokenizer.special_tokens.get(token)
        if special is not None and self._parser.wants(special):
            return special, True
        return text, False

    def _emit(self, output: OutputDelta) -> None:
        output.content = self._stops.feed(output.content)
        if output.calls:  # no stop string reaches over a call
            output.content += self._stops.flush()
        self._log.add(output)
        if self._parser.is_finished:
            self.finish_reason = "tool_calls"
        if self._stops.is_matched:
            self.finish_reason = "stop"

    def _end(self, reason: data.FinishReason) -> None:
        self._emit(self._parser.feed("", is_last=True, is_cut=reason == "length"))
        if text := self._stops.flush():
            self._log.add_content(text)
        if self.finish_reason is None:
            has_called = self._parser.num_calls > 0
            self.finish_reason = "tool_calls" if has_called and reason == "stop" else reason

    def _emit_prompt(self, update: Update) -> None:
        """Start the output with the prompt's text; the first update has its scored tokens."""
        if self._request.has_logprobs:
            self._score_prompt(update.prompt or [])
        text = self._tokenizer.decode(self._prompt.ids)
        self._length = len(text)
        self._log.add_content(text)

    def _score_prompt(self, tokens: list[Token]) -> None:
        detokenizer, offset = self._tokenizer.detokenizer([]), 0
        for token in tokens:
            self._scored.append(ScoredToken(token, offset))
            offset += len(detokenizer.feed(token.id))
