"""A trial of a loaded model: two requests that meet in the batch, before any client asks.

mlx-lm's models use their caches in ways that no list of types tells. A model that cannot be
batched is found here, by name, and not by the first clients.
"""

from collections.abc import Generator, Iterator

from mlx import nn

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.grammars import MakeCompiler
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.kvcache.budget import UNBOUNDED, MemoryBudget
from mlxnode.engine.work import RequestKey
from mlxnode.errors import ModelError, reason_of
from mlxnode.kernels.backend import BackendError, Kernels
from mlxnode.messages.data import Failed, Generate, Sampling

_PROMPTS = ([1, 2, 3, 4, 5], [2, 3, 4])
_NUM_TOKENS = 4  # of each answer
_MAX_STEPS = 100


def try_batch(
    model: nn.Module, config: EngineConfig, make_compiler: MakeCompiler, kernels: Kernels
) -> None:
    """As ``try_batch_in_pieces``, at once."""
    for _ in try_batch_in_pieces(model, config, make_compiler, kernels):
        pass


def try_batch_in_pieces(
    model: nn.Module, config: EngineConfig, make_compiler: MakeCompiler, kernels: Kernels
) -> Iterator[None]:
    """Prefill, join, decode two rows, leave, decode the row that is left; a piece is a step.

    Raises:
        ModelError: one of them fails, or no request gets a token.
    """
    # Drafts would need a text that repeats; the prefixes end with this runner.
    config = config.model_copy(update={"num_speculative_tokens": 0})
    try:
        runner = TextRunner(
            TextParts(model, config, MemoryBudget(UNBOUNDED), make_compiler, kernels)
        )
        yield
        failures = yield from _run(runner)
    except (BackendError, ModelError):
        raise
    except Exception as error:  # of any type: models raise what they like
        raise ModelError(f"it cannot be batched: {reason_of(error)}") from error
    if len(failures) == len(_PROMPTS):
        raise ModelError(failures[0])


def _run(runner: TextRunner) -> Generator[None, None, list[str]]:
    """The reasons of the requests that failed. The second joins when the first has tokens."""
    first, *later = [_request(uid, prompt) for uid, prompt in enumerate(_PROMPTS)]
    _add(runner, first)
    failures: list[str] = []
    for _ in range(_MAX_STEPS):
        if later and (first.num_sampled > 1 or first.has_ended):
            _add(runner, later.pop())
        for outputs in runner.step():
            found = [output.message for output in outputs]
            failures += [message.message for message in found if isinstance(message, Failed)]
        if not later and not runner.has_work:
            return failures
        yield
    raise ModelError(f"two requests do not end within {_MAX_STEPS} steps")


def _add(runner: TextRunner, request: Request) -> None:
    if (refusal := runner.add_request(request)) is not None:
        raise ModelError(refusal.message)


def _request(uid: int, prompt: list[int]) -> Request:
    message = Generate(
        uid=uid,
        model="",
        prompt=prompt,
        max_tokens=_NUM_TOKENS,
        stop_ids=[],
        sampling=Sampling(temperature=0.0),
    )
    return Request.of(RequestKey(0, uid), message, random_seed=0)
