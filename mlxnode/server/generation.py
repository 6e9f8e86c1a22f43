"""From engine updates to text: the choices of one request as they grow."""

from dataclasses import dataclass

from mlxnode.messages import FinishReason, Update
from mlxnode.server.client import Call
from mlxnode.server.registry import TextModel
from mlxnode.server.responses import Usage
from mlxnode.server.stops import StopStrings


@dataclass(frozen=True)
class Delta:
    """New text of one choice; the one with a ``finish_reason`` is its last."""

    index: int
    text: str
    finish_reason: FinishReason | None


class Choice:
    """One answer: its tokens counted, turned into text and watched for stop strings."""

    def __init__(self, model: TextModel, prompt: list[int], stops: list[str]):
        self._detokenizer = model.tokenizer.detokenizer(prompt)
        self._stops = StopStrings(stops)
        self.num_prompt_tokens = len(prompt)
        self.num_tokens = 0  # generated, those that a stop string cut off included
        self.finish_reason: FinishReason | None = None

    def feed(self, update: Update) -> str:
        """Take an update, return the text that can be shown now."""
        pieces = []
        for token in update.tokens:
            self.num_tokens += 1
            pieces.append(self._stops.feed(self._detokenizer.feed(token)))
            if self._stops.is_matched:
                self.finish_reason = "stop"
                return "".join(pieces)
        if update.finish is not None:
            # The stop token is not among ``tokens``, but was generated like the others.
            self.num_tokens += update.finish == "stop"
            self.finish_reason = update.finish
            pieces.append(self._stops.flush())
        return "".join(pieces)


class Generation:
    """All choices of one request, one for each of its prompts."""

    def __init__(self, call: Call, choices: list[Choice]):
        self._call = call
        self._choices = choices

    @property
    def is_finished(self) -> bool:
        return all(choice.finish_reason for choice in self._choices)

    @property
    def usage(self) -> Usage:
        prompt = sum(choice.num_prompt_tokens for choice in self._choices)
        completion = sum(choice.num_tokens for choice in self._choices)
        return Usage(prompt, completion, prompt + completion)

    @property
    def tokens_used(self) -> int:
        """What to charge: nothing for a request that the engine never began to answer."""
        usage = self.usage
        return usage.total_tokens if usage.completion_tokens else 0

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
            Delta(index, text, finished.get(index))
            for index, text in sorted(texts.items())
            if text or index in finished
        ]

    async def finish(self) -> list[Delta]:
        """Wait for everything; the whole text of each choice."""
        texts = [""] * len(self._choices)
        while not self.is_finished:
            for delta in await self.receive():
                texts[delta.index] += delta.text
        return [
            Delta(index, text, choice.finish_reason)
            for index, (text, choice) in enumerate(zip(texts, self._choices, strict=True))
        ]
