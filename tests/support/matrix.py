"""What the node can do with one architecture: cell by cell, on a tiny model of it.

As a script: matrix.py NAME FILE writes the cells of one architecture to a JSON file, from a
process of its own: a fault of one model must not be taken for a fault of the next. (A model
whose ids are outside of a tiny vocabulary writes outside of its arrays, without an error.)
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
from mlx import nn
from mlx_lm.generate import generate_step
from support import architectures
from support.running import make, make_runner, step

from mlxnode.config.tables import EngineConfig, ModelConfig
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.kvcache.prompt_cache import flat_layers, new_prompt_cache
from mlxnode.engine.kvcache.quantization import kv_choices
from mlxnode.engine.kvcache.separate import is_batchable
from mlxnode.engine.loader import load_generation_model
from mlxnode.engine.loading import load_once
from mlxnode.messages.data import Update
from mlxnode.models.describe import describe
from mlxnode.models.files import ModelFiles
from mlxnode.models.served import ServedModel

# Greedy ids must be the same, and the log-probabilities as close as sums in another order are.
# Where the two most likely tokens of the reference are closer than _TIE, either is right, and
# what follows is not compared.
_CLOSE = 2e-3
_CLOSE_QUANTIZED = 2e-2  # a sum in another order can round a key to the next code
_TIE = 1e-4
_OFF = "off: "  # before the note of a cell that uses nothing
_FEW_TOKENS = {"logit_bias": {token: 60.0 for token in range(50, 53)}}  # a text that repeats
# Prompts on both sides of the window of 16 tokens, and of two of them.
_PROMPTS = ((5, 14), (20, 6), (40, 10), (12, 12), (33, 8))  # tokens of prompt and answer
_STARTS = (0, 2, 4, 5, 9)  # the steps before which they arrive

# Models of mlx-lm whose answers depend on how a prompt is cut, with mlx-lm alone, too
# (``test_an_inexact_model_of_mlx_lm_is_so_by_itself``). Their differences are not ours.
INEXACT = {
    "phi3small": "mlx-lm adds a boolean mask to scores: tokens see some that follow",
    "plamo3": "mlx-lm's window is one token longer in a prompt than in a step",
}

CELLS = (
    *("loads", "single", "batched", "prefix", "abort"),
    *("n > 1", "drafts", "4-bit", "kv 8", "kv 4"),
)
Scored = list[tuple[int, float]]  # ids with log-probabilities


class Wrong(Exception):
    """A cell is wrong, and why."""


class Reference(NamedTuple):
    """Greedy tokens, and how far the second most likely token is at each."""

    tokens: Scored
    margins: list[float]


class Cell(NamedTuple):
    """``note`` says more about ``state``.

    "yes", "no" (wrong), "off" (not used, for a reason), "inexact" (as ``INEXACT`` says).
    """

    state: str
    note: str = ""


def check(name: str) -> dict[str, Cell]:
    """All cells of the architecture; only the first if the node refuses it."""
    with tempfile.TemporaryDirectory() as folder, _without_compilation():
        loads = _attempt(lambda: _loads(name, Path(folder)))
        if loads.state != "yes":
            return {"loads": loads}
        model = architectures.build(name)
        cells: dict[str, Callable[[], str]] = {
            "single": lambda: _single(model),
            "batched": lambda: _batched(model),
            "prefix": lambda: _prefix(model),
            "abort": lambda: _abort(model),
            "n > 1": lambda: _candidates(model),
            "drafts": lambda: _drafts(model),
            "4-bit": lambda: _quantized(name, Path(folder)),
            "kv 8": lambda: _kv_bits(model, 8),
            "kv 4": lambda: _kv_bits(model, 4),
        }
        found = {cell: _attempt(function) for cell, function in cells.items()}
        if name in INEXACT:
            differs = Cell("inexact", INEXACT[name])
            found = {cell: differs if f.state == "no" else f for cell, f in found.items()}
        return {"loads": loads} | found


def _attempt(function: Callable[[], str]) -> Cell:
    """The result of a cell. A note that begins with ``_OFF`` says that nothing was used."""
    try:
        note = function()
    except Wrong as error:
        return Cell("no", str(error))
    except Exception as error:  # of any type: models raise what they like
        return Cell("no", f"{type(error).__name__}: {error}"[:300])
    return Cell("off", note[len(_OFF) :]) if note.startswith(_OFF) else Cell("yes", note)


@contextlib.contextmanager
def _without_compilation() -> Iterator[None]:
    """MLX's compiler runs g++ for each new shape, on the CPU; the results are the same."""
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


# --- loads ------------------------------------------------------------------------------


def _describe(folder: Path) -> ServedModel:
    config = ModelConfig(path=str(folder), type="chat", context_length=512)
    return describe("tiny", config, ModelFiles(folder, folder))


def _loads(name: str, folder: Path) -> str:
    """A folder of the architecture passes all that a node does with it at its start."""
    served = _describe(architectures.write_folder(name, folder / "plain"))
    failed = load_once([served], EngineConfig(num_speculative_tokens=0))
    if failed:
        raise Wrong(failed["tiny"])
    kinds = [
        type(layer).__name__
        for layer in flat_layers(new_prompt_cache(architectures.build(name)))
    ]
    return ", ".join(sorted(set(kinds)))


def _quantized(name: str, folder: Path) -> str:
    """Quantized weights from a folder, as mlx-lm makes it."""
    try:
        path = architectures.write_folder(name, folder / "quantized", quantized=True)
    except TypeError as error:
        return f"{_OFF}mlx-lm cannot quantize it ({error})"
    return _single(load_generation_model(_describe(path)))


# --- the cells --------------------------------------------------------------------------


def _single(model: nn.Module) -> str:
    """Each prompt alone gets the tokens of mlx-lm's own loop."""
    for uid in range(len(_PROMPTS)):
        alone = _play(_runner(model), [_request(uid)])[uid]
        _compare(alone, _mlx_lm(model, _request(uid)), f"prompt {uid}")
    return ""


def _batched(model: nn.Module, **config: Any) -> str:
    """Rows that join and leave at different steps get the tokens that they get alone."""
    runner = _runner(model, max_batch_size=3, **config)
    together = _play(runner, [_request(uid) for uid in range(len(_PROMPTS))], _STARTS)
    for uid in range(len(_PROMPTS)):
        alone = _play(_runner(model, **config), [_request(uid)])[uid]
        _compare(together[uid], _as_reference(alone), f"row {uid}", close=_close(config))
    return "" if is_batchable(model) else "its rows run one by one"


def _prefix(model: nn.Module, **config: Any) -> str:
    """The same prompt, its continuation and a fork give the tokens of a cold start."""
    runner = _runner(model, prefix_cache_gb=None, **config)
    first = _request(0, prompt=48)
    answer = [id for id, _ in _play(runner, [first])[0]]
    prompts = {
        "again": first.prompt,
        "next turn": [*first.prompt, *answer, 7, 8, 9],
        "fork": [*first.prompt[:32], 11, 12, 13, 14, 15],
    }
    cached = []
    for uid, (case, prompt) in enumerate(prompts.items(), 1):
        warm, cold = _request(uid, of=prompt), _request(uid, of=prompt)
        found = _play(runner, [warm])[uid]
        expected = _play(_runner(model, **config), [cold])[uid]
        _compare(found, _as_reference(expected), case, close=_close(config))
        cached.append(f"{warm.num_cached} of {len(prompt)}")
    return "cached " + ", ".join(cached)


def _abort(model: nn.Module) -> str:
    """Rows that are aborted, waiting, in prefill or running, change no other row."""
    runner = _runner(model, max_batch_size=3)
    requests = [_request(uid) for uid in range(4)]
    found: dict[int, Scored] = {}
    for request in requests:
        runner.add_request(request)
    for _ in range(4):
        _collect(runner, found)
    for request in (requests[0], requests[3]):
        runner.abort(request.key)
    late = _request(4)
    found |= _play(runner, [late], found=found)
    for uid in (1, 2, 4):
        alone = _play(_runner(model), [_request(uid)])[uid]
        _compare(found[uid], _as_reference(alone), f"row {uid}")
    return ""


def _candidates(model: nn.Module) -> str:
    """Candidates of one prompt, with different seeds, draw what each draws alone."""

    def candidate(uid: int) -> Request:
        request = _request(uid, prompt=21, temperature=1.0, seed=uid)
        request.prompt = _request(0, prompt=21).prompt
        return request

    together = _play(_runner(model, prefix_cache_gb=None), [candidate(uid) for uid in range(3)])
    for uid in range(3):
        alone = _play(_runner(model), [candidate(uid)])[uid]
        if [id for id, _ in together[uid]] != [id for id, _ in alone]:
            raise Wrong(f"candidate {uid} differs")
    return ""


def _drafts(model: nn.Module) -> str:
    """A text that repeats is the same with drafts and without."""
    runner = _runner(model, num_speculative_tokens=8)
    runner._lookup.budget.permits = lambda rows: True  # whatever drafts cost
    can_verify, verified = set[bool](), list[int]()
    batch, verify, forward = runner._batch, runner._batch.verify, runner._batch.forward
    batch.verify = lambda *a: (verified.append(1), verify(*a))[1]
    batch.forward = lambda: (can_verify.add(batch.can_verify), forward())[1]
    found = _play(runner, [_request(uid, max_tokens=40, **_FEW_TOKENS) for uid in range(2)])
    for uid in range(2):
        request = _request(uid, max_tokens=40, **_FEW_TOKENS)
        alone = _play(_runner(model), [request])[uid]
        if [id for id, _ in found[uid]] != [id for id, _ in alone]:
            raise Wrong(f"row {uid} differs")
    if verified:
        return ""
    reason = "its text does not repeat" if True in can_verify else "its caches cannot go back"
    return _OFF + reason


def _kv_bits(model: nn.Module, bits: int) -> str:
    """Quantized KV caches: in the batch as alone, with prefixes as without."""
    choices = kv_choices(model)
    text = choices.text(bits).partition(" quantizes ")[2]
    if not any(choice.group_size for choice in choices.caches):
        return f"{_OFF}{text}"
    _batched(model, kv_cache_bits=bits)
    _prefix(model, kv_cache_bits=bits)
    return text


# --- how it runs ------------------------------------------------------------------------


def _runner(model: nn.Module, **config: Any) -> TextRunner:
    return make_runner(model, **{"prefix_cache_gb": 0.0} | config)


def _request(uid: int, of: list[int] | None = None, **changes: Any) -> Request:
    prompt, max_tokens = _PROMPTS[uid]
    request = make(
        uid, **{"prompt": prompt, "max_tokens": max_tokens, "top_logprobs": 0} | changes
    )
    if of is not None:
        request.prompt = list(of)
    request.borders = [32] if len(request.prompt) > 32 else []
    return request


def _play(
    runner: TextRunner,
    requests: list[Request],
    starts: tuple[int, ...] = (),
    found: dict[int, Scored] | None = None,
) -> dict[int, Scored]:
    """The tokens of each request, which arrives before its step of ``starts``, or the first."""
    found = {} if found is None else found
    waiting = list(zip(requests, starts or [0] * len(requests), strict=True))
    for i in range(1000):
        while waiting and waiting[0][1] <= i:
            refusal = runner.add_request(waiting.pop(0)[0])
            if refusal is not None:
                raise Wrong(refusal.message)
        _collect(runner, found)
        if not waiting and not runner.has_work:
            return found
    raise Wrong("the batch does not come to an end")


def _collect(runner: TextRunner, found: dict[int, Scored]) -> None:
    for output in step(runner):
        message = output.message
        if not isinstance(message, Update):
            raise Wrong(getattr(message, "message", str(message)))
        tokens = [(token.id, token.logprob or 0.0) for token in message.tokens]
        found.setdefault(message.uid, []).extend(tokens)


def _mlx_lm(model: nn.Module, request: Request) -> Reference:
    reference = Reference([], [])
    prompt = mx.array(request.prompt)
    for token, logprobs in generate_step(prompt, model, max_tokens=request.max_tokens):
        id = int(token)
        reference.tokens.append((id, logprobs[id].item()))
        second, best = mx.topk(logprobs, 2).tolist()
        reference.margins.append(abs(best - second))
    return reference


def _close(config: dict[str, Any]) -> float:
    return _CLOSE_QUANTIZED if config.get("kv_cache_bits") else _CLOSE


def _as_reference(alone: Scored) -> Reference:
    """Ties of a run of ours are not known: its tokens must be met exactly."""
    return Reference(alone, [float("inf")] * len(alone))


def _compare(found: Scored, reference: Reference, what: str, *, close: float = _CLOSE) -> None:
    if len(found) != len(reference.tokens):
        raise Wrong(f"{what}: {len(found)} tokens, not {len(reference.tokens)}")
    for i, ((id, logprob), (expected, score)) in enumerate(
        zip(found, reference.tokens, strict=True)
    ):
        if id != expected:
            if reference.margins[i] < _TIE:
                return
            raise Wrong(f"{what}: token {i} is {id}, not {expected}")
        if not abs(logprob - score) < close:
            raise Wrong(f"{what}: log-probability {i} is off by {abs(logprob - score):.3g}")


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)  # the tolerances are the CPU's
    Path(sys.argv[2]).write_text(json.dumps(check(sys.argv[1])))
