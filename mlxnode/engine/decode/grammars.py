"""The grammars of requests: compiled in other threads while the prompts are processed."""

from collections.abc import Callable, Sequence
from concurrent.futures import wait as wait_for
from typing import NamedTuple

import mlx.core as mx
from mlx import nn

from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.pending_step import failure
from mlxnode.engine.decode.request import Request
from mlxnode.engine.work import Output
from mlxnode.grammar import GrammarError

_WAIT = 0.01  # seconds, when nothing else is to do

# Takes the vocabulary size of the logits, and the stop ids.
MakeCompiler = Callable[[int, frozenset[int]], GrammarCompiler]


class Started(NamedTuple):
    """The requests whose grammar does not compile, and what to tell their workers."""

    failed: list[Request]
    outputs: list[Output]


class Grammars:
    """The grammar compiler of one model. The first request with a grammar creates it."""

    def __init__(self, model: nn.Module, make_compiler: MakeCompiler):
        self._model = model
        self._make_compiler = make_compiler
        self._compiler: GrammarCompiler | None = None

    def close(self) -> None:
        """End the threads of the compiler."""
        if self._compiler is not None:
            self._compiler.close()

    def compile(self, request: Request) -> None:
        """Start to compile the grammar of ``request``, if it has one."""
        if request.sampling.grammar is None:
            return
        if self._compiler is None:
            # Only the shape of the logits is needed, so nothing is computed.
            logits = self._model(mx.zeros((1, 1), mx.int32))
            self._compiler = self._make_compiler(logits.shape[-1], request.stop_ids)
        request.compiling = self._compiler.submit(request.sampling.grammar, request.owner.key)

    def start(self, prefilled: Sequence[Request], *, wait: bool) -> Started:
        """Give each complete prompt its grammar, if that is compiled.

        With ``wait``, wait a moment for one: there is nothing else to do.
        """
        compiling = [(r, r.compiling) for r in prefilled if r.compiling is not None]
        if compiling and wait:
            wait_for([future for _, future in compiling], _WAIT)
        started = Started([], [])
        for request, future in compiling:
            if not future.done():
                continue
            try:
                request.grammar = future.result()
            except GrammarError as error:
                started.outputs.append(failure(request, str(error)))
                started.failed.append(request)
            request.compiling = None
        return started
