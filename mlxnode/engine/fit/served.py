"""The verdict on a configured model, from its files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlxnode.config.tables import EngineConfig
from mlxnode.engine import cpu
from mlxnode.engine.embedding.encoders import open_encoder
from mlxnode.engine.fit.encoder import encoder_needs
from mlxnode.engine.fit.needs import needs_of
from mlxnode.engine.kvcache.quantization import kv_choices
from mlxnode.engine.loader import open_generation_model
from mlxnode.engine.memory.plan import free_after
from mlxnode.engine.pacing import largest_chunk
from mlxnode.engine.weights import read_arrays
from mlxnode.errors import ModelError, reason_of
from mlxnode.models.fit import MemoryNeeds, Verdict, Weighed, judge
from mlxnode.models.gguf.folder import read_tensors
from mlxnode.models.served import ServedModel


def needs_of_served(model: ServedModel, config: EngineConfig) -> MemoryNeeds:
    """What ``model`` needs in memory. Its weights are not read.

    Raises:
        ModelError: the model cannot be served.
    """
    if not model.generates_text:
        needs = encoder_needs(
            open_encoder(model), model.context_length, config.embedding_batch_tokens
        )
        return replace(needs, load=_largest_source(model))
    config = config.for_model(model.kv_cache_bits)
    opened = open_generation_model(model, is_read=False)
    needs = needs_of(
        opened,
        bits=config.kv_cache_bits,
        chunk=largest_chunk(),
        context_length=model.context_length,
        max_batch_size=config.max_batch_size,
    )
    bits = config.kv_cache_bits
    note = kv_choices(opened).text(bits) if bits else ""
    return replace(needs, load=_largest_source(model), note=note)


def _largest_source(model: ServedModel) -> int:
    """The bytes of the largest array in the files, if it is converted while it is loaded."""
    if not cpu.is_used():
        return 0
    if model.weights.is_file():
        return max(tensor.end - tensor.start for tensor in read_tensors(model.folder))
    files = model.weights.glob("*.safetensors")
    arrays = {name: array for file in files for name, array in read_arrays(file).items()}
    return max((array.nbytes for array in arrays.values()), default=0)


def find_verdict(model: ServedModel, config: EngineConfig, free: int) -> Verdict | str:
    """Whether ``model`` fits into ``free`` bytes, or why that is not known.

    Raises:
        ModelError: the model cannot be served, whatever the memory, or its weights alone do
            not fit and the rest cannot be traced.
    """
    try:
        needs = needs_of_served(model, config)
    except ModelError:
        raise
    except Exception as error:  # of any type: a graph that cannot be traced, say
        if model.size_bytes > free:
            raise ModelError(
                f"does not fit: its weights alone need {model.size_bytes / 1e9:.2f} GB, "
                f"{free / 1e9:.2f} GB are free"
            ) from error
        return reason_of(error)
    return judge(
        needs,
        free,
        context_length=model.context_length,
        max_batch_size=config.max_batch_size if model.generates_text else 1,
        is_configured=model.has_configured_context,
    )


def check_shared(first: ServedModel, other: ServedModel, config: EngineConfig) -> None:
    """Models that share weights share a batch, and so the type of its KV cache.

    Raises:
        ModelError: ``other`` has another ``kv_cache_bits`` than ``first``.
    """
    bits = [
        config.for_model(model.kv_cache_bits).kv_cache_bits or 0 for model in (first, other)
    ]
    if bits[0] != bits[1]:
        raise ModelError(
            f"kv_cache_bits = {bits[1]}: {first.id} has the same weights and "
            f"kv_cache_bits = {bits[0]}; set the same for both"
        )


def weigh(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, Weighed]:
    """The verdict on each model, by id, if those before it are loaded. Loads none."""
    free, weighed = free_after(config, 0), {}
    counted: dict[Path, ServedModel] = {}
    for model in models:
        try:
            if (first := counted.get(model.weights)) is not None:
                check_shared(first, model, config)
                weighed[model.id] = Weighed("yes", f"shares the weights of {first.id}", True)
                continue
            verdict = find_verdict(model, config, free)
        except ModelError as error:
            weighed[model.id] = Weighed("no", str(error), False)
            continue
        if isinstance(verdict, str):
            weighed[model.id] = Weighed(
                "?", f"it is not known whether it fits: {verdict}", True
            )
            free -= model.size_bytes
        else:
            weighed[model.id] = Weighed(verdict.short, verdict.text, verdict.fits)
            free -= verdict.needs.weights if verdict.fits else 0
        counted[model.weights] = model
    return weighed
