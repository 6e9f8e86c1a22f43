"""A runner on a tiny model, stepped by the test itself."""

from mlx import nn

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.work import Output, RequestKey
from mlxnode.kernels.backend import OPS, Kernels
from mlxnode.messages.data import Generate, Sampling, Update


def make_parts(
    model: nn.Module,
    kernels: Kernels = OPS,
    budget: int = 10**9,
    store: PrefixStore | None = None,
    **config,
) -> TextParts:
    """Without drafts, unless asked for: a step then brings one token for each row."""

    def make_compiler(vocabulary_size: int, stop_ids: frozenset[int]) -> GrammarCompiler:
        return GrammarCompiler(model.folder, vocabulary_size, stop_ids)

    config = {"num_speculative_tokens": 0} | config
    memory = MemoryBudget(budget)
    return TextParts(model, EngineConfig(**config), memory, make_compiler, kernels, store)


def make_runner(
    model: nn.Module, kernels: Kernels = OPS, budget: int = 10**9, **config
) -> TextRunner:
    """A runner of ``make_parts``."""
    return TextRunner(make_parts(model, kernels, budget, None, **config))


def make(
    uid: int,
    prompt: int = 12,
    max_tokens: int = 20,
    stop=(),
    owner: dict | None = None,
    **sampling,
) -> Request:
    """``owner``: the fields of ``messages.Work``."""
    ids = [3 + (uid * 7 + i * i) % 250 for i in range(prompt)]
    sampling = {"temperature": 0.0, "seed": uid} | sampling
    message = Generate(
        uid=uid,
        model="m",
        prompt=ids,
        max_tokens=max_tokens,
        stop_ids=list(stop),
        sampling=Sampling(**sampling),
        **(owner or {}),
    )
    return Request.of(RequestKey(1, uid), message, random_seed=0)


def step(runner: TextRunner) -> list[Output]:
    """The outputs of one step."""
    return [output for outputs in runner.step() for output in outputs]


def ids_of(output: Output) -> list[int]:
    assert isinstance(output.message, Update), output
    return [token.id for token in output.message.tokens]


def collect(runner: TextRunner, tokens: dict[int, list[int]]) -> None:
    for output in step(runner):
        if ids := ids_of(output):
            tokens.setdefault(output.message.uid, []).extend(ids)


def updates(runner: TextRunner, *requests: Request) -> list[Update]:
    """All updates of the requests, from one batch."""
    for request in requests:
        assert runner.add_request(request) is None
    found: list[Update] = []
    while runner.has_work:
        for output in step(runner):
            assert isinstance(output.message, Update), output
            found.append(output.message)
    return found


def run(runner: TextRunner, *requests: Request) -> dict[int, list[int]]:
    """The tokens of each request by uid, from one batch."""
    for request in requests:
        assert runner.add_request(request) is None
    tokens: dict[int, list[int]] = {}
    for _ in range(2000):
        if not runner.has_work:
            return tokens
        collect(runner, tokens)
    raise AssertionError("the batch does not come to an end")


MIXED = [
    {},
    {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 1.2, "top_k": 20},
    {"temperature": 0.8, "min_p": 0.1},
    {"temperature": 1.0},
]


def mixed(uid: int) -> Request:
    parameters = MIXED[uid % len(MIXED)]
    return make(uid, prompt=1 + uid * 13, max_tokens=10 + uid, **parameters)
