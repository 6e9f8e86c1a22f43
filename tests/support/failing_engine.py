"""An engine whose steps raise an exception while a request that begins with ``POISON`` runs."""

from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from mlxnode.config.tables import NodeConfig
from mlxnode.engine.entry import run_engine
from mlxnode.models.served import ServedModel

POISON = 7  # the first token of the prompt


def run_failing_engine(
    control: Connection, config: NodeConfig, models: list[ServedModel], *_: object
) -> None:
    from mlxnode.engine.decode.runner import TextRunner

    step = TextRunner.step

    def fail(self: TextRunner, others: Any = (), **options: bool) -> Iterator[Any]:
        prompts = [self._requests[key].prompt for key in self.active if key in self._requests]
        if any(prompt[0] == POISON for prompt in prompts):
            raise RuntimeError("poison")
        yield from step(self, others, **options)

    TextRunner.step = fail
    run_engine(control, config, models)
