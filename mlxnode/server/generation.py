"""From engine updates to text: the choices of one request as they grow."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlxnode.messages import FinishReason, Update
from mlxnode.server.client import Call
from mlxnode.server.registry import TextModel
from mlxnode.server.responses import Usage
from mlxnode.server.stops import StopStrings


@dataclass(frozen=True)
class ScoredToken:
    """A token with its log-probability, and where it begins in the choice's text."""

    id: int
    logprob: float | None  # None for the first token of a prompt
    top: dict[int, float]  # the most likely tokens in its place
    offset: int  # characters


@dataclass(frozen=True)
class Delta:
    """New text of one choice; the one with a ``finish_reason`` is its last."""

    index: int
    text: str
    finish_reason: FinishReason | None
    tokens: list[ScoredToken] = field(default_factory=list)  # if asked for: what it is made of


class Choice:
    """One answer: its tokens counted, turned into text and watched for stop strings."""

    def __init__(
        self,
        model: TextModel,
        prompt: list[int],
        stops: list[str],
        *,
        scores: bool = False,
        echo: bool = False,
        is_empty: bool = False,
    ):
        """``scores``: keep log-probabilities; ``echo``: begin with the prompt; ``is_empty``:
        nothing is to follow it, whatever the engine generates."""
        self._tokenizer = model.tokenizer
        self._prompt = prompt
        self._detokenizer = model.tokenizer.detokenizer(prompt)
        self._stops = StopStrings(stops)
        self._scores = scores
        self._echo = echo
        self._is_empty = is_empty
        self._length = 0  # characters that the tokens so far gave
        self._scored: list[ScoredToken] = []  # those that no delta has told yet
        self.num_tokens = 0  # generated, those that a stop string cut off included
        self.total_logprob = 0.0
        self.finish_reason: FinishReason | None = None

    def feed(self, update: Update) -> str:
        """Take an update, return the text that can be shown now."""
        pieces = []
        if self._echo:
            self._echo = False
            pieces.append(self._tell_prompt(update))
        if self._is_empty:
            self.finish_reason = "length"
            return "".join(pieces)
        for i, (token, logprob) in enumerate(zip(update.tokens, update.logprobs, strict=True)):
            self.num_tokens += 1
            self.total_logprob += logprob
            if self._scores:
                top = update.top_logprobs[i] if update.top_logprobs else {}
                self._scored.append(ScoredToken(token, logprob, top, self._length))
            text = self._detokenizer.feed(token)
            self._length += len(text)
            pieces.append(self._stops.feed(text))
            if self._stops.is_matched:
                self.finish_reason = "stop"
                return "".join(pieces)
        if update.finish is not None:
            # The stop token is not among ``tokens``, but was generated like the others.
            self.num_tokens += update.finish == "stop"
            self.finish_reason = update.finish
            pieces.append(self._stops.flush())
        return "".join(pieces)

    def _tell_prompt(self, update: Update) -> str:
        """The prompt's text; its tokens are scored by the first update."""
        if self._scores:
            self._score_prompt([None, *update.prompt_logprobs], update.prompt_top_logprobs)
        text = self._tokenizer.decode(self._prompt)
        self._length = len(text)
        return text

    def _score_prompt(self, logprobs: list[float | None], tops: list[dict[int, float]]) -> None:
        detokenizer, offset = self._tokenizer.detokenizer([]), 0
        tops = [{}, *tops] if tops else [{}] * len(logprobs)
        for token, logprob, top in zip(self._prompt, logprobs, tops, strict=True):
            self._scored.append(ScoredToken(token, logprob, top, offset))
            offset += len(detokenizer.feed(token))

    def take_scored(self) -> list[ScoredToken]:
        """The tokens since the last call."""
        scored, self._scored = self._scored, []
        return scored


class Generation:
    """All choices of one request: of the first prompt first, then of the next."""

    def __init__(self, call: Call, choices: Sequence[Choice], num_prompt_tokens: int):
        self._call = call
        self._choices = choices
        self._num_prompt_tokens = num_prompt_tokens

    @property
    def is_finished(self) -> bool:
        return all(choice.finish_reason for choice in self._choices)

    @property
    def usage(self) -> Usage:
        completion = sum(choice.num_tokens for choice in self._choices)
        return Usage(self._num_prompt_tokens, completion, self._num_prompt_tokens + completion)

    @property
    def tokens_used(self) -> int:
        """What to charge: nothing for a request that the engine never began to answer."""
        # A prompt that was only scored has no tokens of its own, but an end.
        has_begun = any(choice.num_tokens or choice.finish_reason for choice in self._choices)
        return self.usage.total_tokens if has_begun else 0

    async def receive(self) -> list[Delta]:
        """Wait for news, return one delta for each choice that has any, in index order.

        What arrived while the caller was busy is joined, so that a slow client costs
        fewer and larger writes. The list is empty when tokens completed no text.

        Raises:
            ApiError: the engine refused, failed or went away.
        """
        texts: dict[int, str] = {}
        finished: dict[int, FinishReason] = {}
        for index, update in await self._call.receive():
            choice = self._choices[index]
            if choice.finish_reason is not None:
                continue  # A step that was under way when a stop string was found.
            texts[index] = texts.get(index, "") + choice.feed(update)
            if choice.finish_reason is not None:
                finished[index] = choice.finish_reason
                self._call.abort(index)  # Nothing to stop unless a stop string ended it.
        return [
            Delta(index, text, finished.get(index), self._choices[index].take_scored())
            for index, text in sorted(texts.items())
            if text or index in finished
        ]

    async def finish(self) -> list[Delta]:
        """Wait for everything; the whole text of each choice."""
        texts = [""] * len(self._choices)
        tokens: list[list[ScoredToken]] = [[] for _ in self._choices]
        while not self.is_finished:
            for delta in await self.receive():
                texts[delta.index] += delta.text
                tokens[delta.index] += delta.tokens
        return [
            Delta(index, texts[index], choice.finish_reason, tokens[index])
            for index, choice in enumerate(self._choices)
        ]

    def best(self, deltas: list[Delta], num_candidates: int, count: int) -> list[Delta]:
        """Of each prompt's ``num_candidates`` choices, the ``count`` most likely by token."""

        def likelihood(delta: Delta) -> float:
            choice = self._choices[delta.index]
            return choice.total_logprob / max(choice.num_tokens, 1)

        chosen: list[Delta] = []
        for start in range(0, len(deltas), num_candidates):
            candidates = deltas[start : start + num_candidates]
            chosen += sorted(candidates, key=likelihood, reverse=True)[:count]
        return [replace(delta, index=index) for index, delta in enumerate(chosen)]
