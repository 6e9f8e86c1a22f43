"""Loads the models of the node. A model that cannot be loaded does not end the others."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.decode.trial import try_batch
from mlxnode.engine.embedding.runner import EmbeddingRunner
from mlxnode.engine.fit.served import check_shared, find_verdict
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.origin import fingerprint, origin_of, remove_stale
from mlxnode.engine.loader import load_generation_model
from mlxnode.engine.loader.bases import BaseWeights
from mlxnode.engine.memory.device import limit_memory
from mlxnode.engine.memory.plan import describe, free_after, kv_cache_bytes
from mlxnode.engine.work import Runner
from mlxnode.errors import ModelError, panics_caught, reason_of
from mlxnode.kernels import backend
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.complete import check_complete
from mlxnode.models.files import ModelFiles
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")


@dataclass
class LoadedModels:
    """The models of the node, by id."""

    runners: dict[str, Runner] = field(default_factory=dict)  # ids can share a runner
    weights: dict[str, int] = field(default_factory=dict)  # bytes in memory
    failed: dict[str, str] = field(default_factory=dict)  # why a model cannot be served


def load_once(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, str]:
    """The models that cannot be served, each with the reason; the others are dropped."""
    limit_memory(config)
    try:
        return ModelLoader(config, log.info).load(models).failed
    except backend.BackendError as error:
        return {model.id: str(error) for model in models}


class ModelLoader:
    """Loads models one after the other, each only if it fits beside those before it.

    ``report`` takes a line for the user who started the node. ``on_load`` is called with the
    id of each model before anything is done with its files.

    Raises:
        BackendError: the configuration requires kernels that do not work on this machine.
    """

    def __init__(
        self,
        config: EngineConfig,
        report: Callable[[str], None],
        on_load: Callable[[str], None] = lambda id: None,
    ):
        self._config = config
        self._report = report
        self._on_load = on_load
        self._kernels = backend.choose(config.kernels)
        self.budget = MemoryBudget()
        self._loaded = LoadedModels()
        self._by_weights: dict[tuple, ServedModel] = {}  # the first text model of each
        self._bases = BaseWeights()

    def load(self, models: Sequence[ServedModel]) -> LoadedModels:
        """Load ``models``, and give the KV caches the memory that is left.

        Raises:
            BackendError: a kernel that the configuration requires does not work.
        """
        if self._config.prefix_cache_disk_gb:
            remove_stale(cache_folder() / "prefixes")
        for model in models:
            self._on_load(model.id)
            try:
                with panics_caught():
                    self._load_one(model)
            except backend.BackendError:
                raise  # no fault of the model
            except Exception as error:  # of any type: mlx-lm raises whatever its models raise
                log.debug("%s cannot be loaded", model.id, exc_info=error)
                self._loaded.failed[model.id] = reason_of(error)
                self._report(f"{model.id} failed: {reason_of(error)}")
                mx.clear_cache()
        self._share_memory(models)
        return self._loaded

    def _load_one(self, model: ServedModel) -> None:
        runners, weights = self._loaded.runners, self._loaded.weights
        if (first := self._by_weights.get(model.weights_key)) and model.generates_text:
            check_shared(first, model, self._config)
            runners[model.id], weights[model.id] = runners[first.id], weights[first.id]
            return
        before = mx.get_active_memory()
        self._check_fit(model, free_after(self._config, before))
        self._report(f"loading {model.id} ({model.size_bytes / 1e6:.0f} MB)")
        if model.generates_text:
            runners[model.id] = self._text_runner(model)
            self._by_weights[model.weights_key] = model
        else:
            runners[model.id] = EmbeddingRunner.load(model, self._config, self._kernels)
        weights[model.id] = mx.get_active_memory() - before

    def _check_fit(self, model: ServedModel, free: int) -> None:
        """Say whether ``model`` fits into ``free`` bytes.

        Raises:
            ModelError: it does not.
        """
        check_complete(ModelFiles(model.folder, model.weights))
        verdict = find_verdict(model, self._config, free, self._bases.loaded_bytes(model))
        if isinstance(verdict, str):  # a graph that cannot be traced; the model itself may work
            log.info("%s: it is not known whether it fits: %s", model.id, verdict)
            return
        if not verdict.fits:
            raise ModelError(verdict.text)
        self._report(f"{model.id} {verdict.text}")

    def _text_runner(self, model: ServedModel) -> TextRunner:
        config = self._config.for_model(model.kv_cache_bits)
        loaded = load_generation_model(model, bases=self._bases)
        make_compiler = functools.partial(GrammarCompiler, model.folder)
        try_batch(loaded, config, make_compiler, self._kernels)
        return TextRunner(
            loaded,
            config,
            self.budget,
            make_compiler,
            self._kernels,
            self._prefix_store(model, config),
        )

    def _prefix_store(self, model: ServedModel, config: EngineConfig) -> PrefixStore | None:
        """The model's prefix cache on disk, None if the config has no disk cache."""
        if not config.prefix_cache_disk_gb:
            return None
        return PrefixStore(
            cache_folder() / "prefixes",
            fingerprint(model, config.kv_cache_bits),
            int(config.prefix_cache_disk_gb * 1e9),
            origin_of(model),
        )

    def _share_memory(self, models: Sequence[ServedModel]) -> None:
        """Give the KV caches what remains after each runner reserved memory for its passes."""
        mx.clear_cache()
        weights = mx.get_active_memory()
        contexts: dict[Runner, int] = {}
        for model in models:
            if (runner := self._loaded.runners.get(model.id)) is not None:
                contexts[runner] = max(contexts.get(runner, 0), model.context_length)
        available = free_after(self._config, weights) // max(len(contexts), 1)
        activations = sum(
            runner.reserve_activations(available, context)
            for runner, context in contexts.items()
        )
        mx.reset_peak_memory()
        total = kv_cache_bytes(self._config, weights, activations)
        log.info("%s", describe(self._config, weights, activations, total))
        self.budget.total = total
