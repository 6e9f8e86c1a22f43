"""What a model has done since the start: tokens, steps, and drafts."""

from collections.abc import Iterable, Sequence

from mlxnode.engine.decode.pending_step import PendingStep
from mlxnode.engine.decode.request import Request
from mlxnode.engine.work import Output
from mlxnode.figures import RunnerFigures
from mlxnode.messages.data import Update


class TokenCounts:
    """Plain numbers: a lazy array that nobody evaluates would grow."""

    def __init__(self) -> None:
        self.prompt = 0
        self.cached = 0  # of the prompt tokens
        self.generated = 0
        self.steps = 0  # of a batch
        self.step_rows = 0  # of all steps
        self.drafted = 0
        self.accepted = 0  # of the drafted tokens

    def count_prompt(self, request: Request) -> None:
        """Count the prompt of a request whose prefill starts; not again after a set-aside."""
        if request.is_resumed:
            return
        self.prompt += len(request.prompt)
        self.cached += request.num_cached

    def count_generated(self, outputs: Iterable[Output]) -> None:
        """Count the tokens that were sampled and read."""
        for output in outputs:
            if isinstance(output.message, Update):
                self.generated += len(output.message.tokens)

    def figures(self, **now: int) -> RunnerFigures:
        """What was counted, beside the figures of ``now``."""
        return RunnerFigures(
            prompt_tokens=self.prompt,
            cached_tokens=self.cached,
            generated_tokens=self.generated,
            steps=self.steps,
            step_rows=self.step_rows,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
            **now,
        )

    def count_step(self, step: PendingStep, outputs: Sequence[Output]) -> None:
        """Count a step of the batch, whose ``outputs`` were read."""
        self.steps += 1
        self.step_rows += len(step.rows)
        if step.drafts is not None:
            self.drafted += sum(map(len, step.drafts))
            self.accepted += sum(map(num_sampled, outputs)) - len(outputs)


def num_sampled(output: Output) -> int:
    """Sampled tokens, a stop id included."""
    return max(len(output.message.tokens), 1) if isinstance(output.message, Update) else 1
