"""How much of a prompt, or of a batch of texts, is computed between two decode steps."""

# A chunk may be longer by this factor if it completes the prompt: a small remainder would cost
# another pass, and the prompt would wait for another decode step.
MAX_REMAINDER = 1.5


class Throughput:
    """The measured throughput of a model in tokens per second."""

    MIN_CHUNK, MAX_CHUNK = 16, 2048  # tokens

    def __init__(self) -> None:
        self._tokens_per_second = 1000.0

    def tokens_in(self, seconds: float) -> int:
        """The number of tokens that take ``seconds``, within the bounds."""
        return min(max(int(self._tokens_per_second * seconds), self.MIN_CHUNK), self.MAX_CHUNK)

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a forward pass on ``tokens`` tokens."""
        if tokens >= self.MIN_CHUNK and seconds > 0:
            self._tokens_per_second += 0.3 * (tokens / seconds - self._tokens_per_second)


class PrefillPacing:
    """The number of prompt tokens that fit in the time that running rows may be delayed.

    The delay is the configured stall, or almost the duration of a decode step if that is
    longer: prefill then at most doubles the time between two tokens. If more prompts wait, the
    delay gets longer, up to ``MAX_SHARE`` times. A waiting prompt counts as much as ``WEIGHT``
    running rows, which have their first tokens already.
    """

    OF_A_STEP = 0.85  # the remaining share is for the overhead of a chunk
    MAX_SHARE = 8
    WEIGHT = 4
    ALONE = 20  # stalls, if no row runs: efficient, and an abort is still handled soon
    ALONE_BEHIND = 8  # in the background: whoever comes in the foreground waits for the chunk

    def __init__(self, stall_seconds: float, alone: int = ALONE):
        """``alone``: the stalls that a chunk may take if no row runs."""
        self._stall_seconds = stall_seconds
        self._alone = alone
        self._throughput = Throughput()
        self.step_seconds = 0.0  # of a decode step

    def chunk_size(
        self, *, num_running: int, num_prompts: int = 1, is_brief: bool = False
    ) -> int:
        """The number of prompt tokens to process before the next decode step.

        If it ``is_brief``, it takes one stall, whatever waits or runs.
        """
        if is_brief:
            return self._throughput.tokens_in(self._stall_seconds)
        seconds = self._alone * self._stall_seconds
        if num_running:
            share = min(max(self.WEIGHT * (num_prompts - 1) / num_running, 1), self.MAX_SHARE)
            seconds = share * max(self._stall_seconds, self.OF_A_STEP * self.step_seconds)
        return self._throughput.tokens_in(seconds)

    def observe_chunk(self, tokens: int, seconds: float) -> None:
        """Learn from a processed chunk of a prompt."""
        self._throughput.observe(tokens, seconds)

    def observe_step(self, seconds: float) -> None:
        """Learn from a decode step."""
        self.step_seconds += 0.3 * (seconds - self.step_seconds)


def largest_chunk() -> int:
    """The most prompt tokens in one pass."""
    return int(MAX_REMAINDER * Throughput.MAX_CHUNK)
