"""All choices of one request: the engine's updates handed out, their texts collected."""

from collections.abc import Sequence
from dataclasses import replace

from mlxnode.server.answer.choice import Choice, Delta
from mlxnode.server.client import Call
from mlxnode.server.formats.usage import CompletionTokensDetails, PromptTokensDetails, Usage


class Generation:
    """All choices of one request: of the first prompt first, then of the next."""

    def __init__(self, call: Call, choices: Sequence[Choice], prompts: Sequence[list[int]]):
        """``choices``: as many for each of ``prompts``."""
        self._call = call
        self._choices = choices
        self._num_prompts = len(prompts)
        self._num_prompt_tokens = sum(map(len, prompts))

    @property
    def is_finished(self) -> bool:
        return all(choice.finish_reason for choice in self._choices)

    @property
    def usage(self) -> Usage:
        completion = sum(choice.num_tokens for choice in self._choices)
        reasoning = sum(choice.num_reasoning_tokens for choice in self._choices)
        return Usage(
            self._num_prompt_tokens,
            completion,
            self._num_prompt_tokens + completion,
            PromptTokensDetails(self._num_cached_tokens),
            CompletionTokensDetails(reasoning),
        )

    @property
    def _num_cached_tokens(self) -> int:
        """Prompt tokens that were not computed: a prompt counts once for all its answers."""
        known: dict[int, int] = {}
        for i, choice in enumerate(self._choices):
            prompt = i * self._num_prompts // len(self._choices)
            cached = choice.num_cached_tokens
            known[prompt] = min(known.get(prompt, cached), cached)
        return sum(known.values())

    @property
    def tokens_used(self) -> int:
        """What to charge: nothing for a request that the engine refused or lost at once.

        A client that leaves before the first token pays for its prompt: it was worked on.
        """
        # A prompt that was only scored has no tokens of its own, but an end.
        has_begun = any(choice.num_tokens or choice.finish_reason for choice in self._choices)
        return self.usage.total_tokens if has_begun or not self._call.has_failed else 0

    async def receive(self) -> list[Delta]:
        """Wait for news, return one delta for each choice that has any, in index order.

        What arrived while the caller was busy is joined, so that a slow client costs
        fewer and larger writes. The list is empty when tokens completed no text.

        Raises:
            ApiError: the engine refused, failed or went away.
        """
        return [
            self._choices[index].take(index)
            for index in sorted(await self._feed())
            if self._choices[index].has_news
        ]

    async def finish(self) -> list[Delta]:
        """Wait for everything; all of each choice.

        Raises:
            ApiError: as ``receive`` does.
        """
        while not self.is_finished:
            await self._feed()
        return [choice.take(index) for index, choice in enumerate(self._choices)]

    async def _feed(self) -> set[int]:
        """Wait for news, hand it to the choices; returns which got any."""
        fed = set()
        for index, update in await self._call.receive():
            choice = self._choices[index]
            if choice.finish_reason is not None:
                continue  # A step that was under way when the answer was found complete.
            fed.add(index)
            choice.feed(update)
            if choice.finish_reason is not None:
                self._call.abort(index)  # Nothing to stop unless the engine went on.
        return fed

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
