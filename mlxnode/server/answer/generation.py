"""All choices of one request: the engine's updates in, their new output out."""

from collections.abc import Callable

from msgspec.structs import replace

from mlxnode.messages.data import Timing
from mlxnode.server.answer.choice import Choice, ChoiceDelta, FinishedChoice
from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.answer.usage import NOTHING, TokenCounts
from mlxnode.server.client.engine_call import EngineCall


class Generation:
    """The candidates of one request: those of the first prompt, then those of the next."""

    def __init__(
        self,
        call: EngineCall,
        request: GenerationRequest,
        note_tokens: Callable[[int], object] = lambda used: None,
    ):
        """Read the updates of ``call``, which generates the candidates of ``request``.

        ``note_tokens`` gets the number of tokens used so far, with each update.
        """
        self._call = call
        self._request = request
        self._note_tokens = note_tokens
        self.timing: Timing | None = None  # of the sequence that had the first tokens
        self._choices = [
            Choice(request, prompt) for prompt in request.prompts for _ in request.samplings
        ]

    @property
    def is_finished(self) -> bool:
        return all(choice.finish_reason for choice in self._choices)

    @property
    def finish_reasons(self) -> list[str]:
        """Those of the candidates that have ended, in their order."""
        return [choice.finish_reason for choice in self._choices if choice.finish_reason]

    @property
    def usage(self) -> TokenCounts:
        return TokenCounts(
            prompt=self._request.num_prompt_tokens,
            cached=self._num_cached_tokens,
            completion=sum(choice.num_tokens for choice in self._choices),
            reasoning=sum(choice.num_reasoning_tokens for choice in self._choices),
        )

    @property
    def _num_cached_tokens(self) -> int:
        """The prompt tokens that no candidate of the prompt had to compute."""
        count = self._request.num_candidates
        return sum(
            min(choice.num_cached_tokens for choice in self._choices[start : start + count])
            for start in range(0, len(self._choices), count)
        )

    @property
    def charged(self) -> TokenCounts:
        """The tokens to charge: none if the engine refused the request or lost it at once.

        A client that leaves before the first token pays for its prompt, which was computed.
        """
        # A prompt that was only scored has an end, but no tokens of its own.
        has_started = any(choice.num_tokens or choice.finish_reason for choice in self._choices)
        return self.usage if has_started or not self._call.has_failed else NOTHING

    async def wait(self, seconds: float) -> bool:
        """True as soon as there is something to receive; False if there is not in time."""
        return await self._call.wait(seconds)

    async def receive(self) -> list[ChoiceDelta]:
        """Wait for updates; returns a delta for each choice with new output, by index.

        Updates that arrived while the caller was busy are joined, so that a slow client gets
        fewer and larger writes. The list is empty if the tokens completed no text.

        Raises:
            ApiError: the engine refused the request, failed or went away.
        """
        return [
            self._choices[index].take_delta(index)
            for index in sorted(await self._feed())
            if self._choices[index].has_news
        ]

    async def finish(self) -> list[FinishedChoice]:
        """Wait for the end of all candidates; returns the choices of the answer, by index.

        Raises:
            ApiError: as ``receive`` does.
        """
        finished: dict[int, FinishedChoice] = {}
        while len(finished) < len(self._choices):
            for index in await self._feed():
                choice = self._choices[index]
                if choice.finish_reason is not None:
                    finished[index] = choice.take_whole(index, choice.finish_reason)
        return self._best([finished[index] for index in range(len(self._choices))])

    async def _feed(self) -> set[int]:
        """Wait for updates and feed them to the choices; returns the indices of the choices."""
        fed = set()
        for index, update in await self._call.receive():
            choice = self._choices[index]
            self.timing = self.timing or update.timing
            if choice.finish_reason is not None:
                continue  # from a step that was in flight when the choice ended here
            fed.add(index)
            self.timing = self.timing or update.timing
            choice.feed(update)
            if choice.finish_reason is not None:
                self._call.abort(index)  # has an effect only if the engine still generates
        self._note_tokens(self.charged.total)
        return fed

    def _best(self, candidates: list[FinishedChoice]) -> list[FinishedChoice]:
        """The most likely candidates of each prompt, by the mean of their tokens."""
        count, num_choices = self._request.num_candidates, self._request.num_choices
        if count == num_choices:
            return candidates

        def likelihood(candidate: FinishedChoice) -> float:
            return self._choices[candidate.index].mean_logprob

        best: list[FinishedChoice] = []
        for start in range(0, len(candidates), count):
            own = candidates[start : start + count]
            best += sorted(own, key=likelihood, reverse=True)[:num_choices]
        return [replace(choice, index=index) for index, choice in enumerate(best)]
