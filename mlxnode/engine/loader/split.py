"""Spreads a model over the ranks of a distributed engine, as mlx-lm does it.

With tensor parallelism, each rank has a part of every layer, and the ranks add what they have
computed twice in each layer. In a pipeline, each rank has some of the layers.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.nn.layers import distributed as layers

from mlxnode.config.several import Strategy
from mlxnode.errors import ModelError, reason_of
from mlxnode.models.served import ServedModel

_group: Any = None  # of mlx.distributed; None: one machine
_default: Strategy = "none"


def use(group: Any, default: Strategy = "none") -> None:
    """Spread the models that this process opens from now on over ``group``.

    ``default`` is the strategy of models that say nothing.
    """
    global _group, _default
    _group, _default = group, default


class _Imagined:
    """A group in which nothing can be computed."""

    def __init__(self, size: int):
        self._size = size

    def rank(self) -> int:
        return 0

    def size(self) -> int:
        return self._size


def strategy_of(served: ServedModel, model: nn.Module) -> Strategy:
    """How ``served`` is spread; "none" on one machine.

    Raises:
        ModelError: its table asks for what it does not allow.
    """
    return "none" if _group is None else choose(served, model, _default)


def is_spread(model: nn.Module) -> bool:
    """True if this process has a part of ``model`` only."""
    return getattr(model, "is_spread", False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, the part of a model computes by itself, as much as with the other ranks.

    For traces of its shapes: MLX cannot export what ranks do together.
    """
    size = 1 if _group is None else _group.size()
    stand_ins: dict[str, Callable[..., mx.array]] = {
        "all_sum": lambda x, **_: x + mx.zeros(1, x.dtype),
        "all_gather": lambda x, **_: mx.concatenate([x] * size),
        "recv_like": lambda x, *_, **__: x + mx.zeros(1, x.dtype),
        "send": lambda x, *_, **__: x,
    }
    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (mx.distributed, name, stand_in) for name, stand_in in stand_ins.items()
    ]
    replaced.append((layers, "sum_gradients", lambda _: lambda x: x))  # of gradients alone
    whole = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, stand_in in replaced:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for (owner, name, _), original in zip(replaced, whole, strict=True):
            setattr(owner, name, original)


@contextlib.contextmanager
def imagined(size: int, default: Strategy) -> Iterator[None]:
    """Inside, a process that is no rank knows the shapes of rank 0's parts."""
    before = _group, _default
    use(_Imagined(size), default)
    try:
        with alone():
            yield
    finally:
        use(*before)


def allowed(model: nn.Module) -> list[Strategy]:
    """The strategies that mlx-lm has for ``model``."""
    inner = getattr(model, "model", None)
    has = {"tensor": hasattr(model, "shard"), "pipeline": hasattr(inner, "pipeline")}
    strategies: list[Strategy] = ["tensor", "pipeline"]
    return [strategy for strategy in strategies if has[strategy]]


def choose(served: ServedModel, model: nn.Module, default: Strategy) -> Strategy:
    """How ``served`` is spread: as its table says, else by ``default`` or what it allows.

    Raises:
        ModelError: its table asks for what it does not allow.
    """
    strategies = allowed(model)
    wanted = served.strategy
    if wanted is None:
        if default == "none" or served.adapter is not None or not strategies:
            return "none"
        return default if default in strategies else strategies[0]
    if wanted == "none":
        return wanted
    if served.adapter is not None:
        raise ModelError(f'strategy = "{wanted}" does not go with an adapter; use "none"')
    if wanted not in strategies:
        others = " or ".join(f'"{strategy}"' for strategy in (*strategies, "none"))
        raise ModelError(
            f'mlx-lm cannot spread {served.architecture} with strategy = "{wanted}"; '
            f"use {others}"
        )
    return wanted


def take_part(model: Any, strategy: Strategy) -> None:
    """Leave to ``model`` the part of this rank. Nothing is evaluated.

    Raises:
        ModelError: its sizes do not allow so many ranks.
    """
    if (group := _group) is None or strategy == "none":
        return
    try:
        if strategy == "tensor":
            _check_heads(model, group.size())
            model.shard(group)
        else:
            model.model.pipeline(group)
            _untie(model)
        model.is_spread = True
    except ModelError:
        raise
    except Exception as error:  # of any type: models raise what they like
        raise ModelError(
            f'{group.size()} ranks cannot share it with strategy = "{strategy}": '
            f"{reason_of(error)}"
        ) from error


def _check_heads(model: nn.Module, size: int) -> None:
    """mlx-lm divides the heads without a look at the remainder."""
    arguments = getattr(model, "args", None)
    names = ["num_attention_heads", "num_key_value_heads"]
    if getattr(arguments, "kv_lora_rank", None):
        names.pop()  # all heads read the same latent keys, which every rank has
    for name in names:
        heads = getattr(arguments, name, None)
        if isinstance(heads, int) and heads % size:
            raise ModelError(
                f"its {heads} heads ({name}) cannot be shared by {size} ranks; use "
                'strategy = "pipeline", or another number of ranks'
            )


class _Untied(list):
    """The caches of a pipeline's layers, of which the model does not find the last one.

    mlx-lm makes the keys of the last layer depend on what the rank has sent, so that whoever
    evaluates the cache sends. The layers of a batch have no such array. Here, every pass is run
    to its end instead (``runs_to_the_end``).
    """

    def __getitem__(self, index: Any) -> Any:
        return None if index == -1 else super().__getitem__(index)


def _untie(model: nn.Module) -> None:
    whole = type(model)

    def run(self: nn.Module, *arguments: Any, cache: Any = None, **options: Any) -> mx.array:
        cache = None if cache is None else _Untied(cache)
        return whole.__call__(self, *arguments, cache=cache, **options)

    model.__class__ = type(whole.__name__, (whole,), {"__call__": run, "is_pipeline": True})
