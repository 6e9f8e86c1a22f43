"""The verdict on a configured model, from its files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlxnode.config.tables import EngineConfig
from mlxnode.engine import cpu
from mlxnode.engine.embedding.encoders import open_encoder
from mlxnode.engine.fit.encoder import encoder_needs
from mlxnode.engine.fit.needs import needs_of
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
    if model.type == "embedding":
        needs = encoder_needs(
            open_encoder(model), model.context_length, config.embedding_batch_tokens
        )
        return replace(needs, load=_largest_source(model))
    needs = needs_of(
        open_generation_model(model, is_read=False),
        bits=config.kv_cache_bits,
        chunk=largest_chunk(),
        context_length=model.context_length,
        max_batch_size=config.max_batch_size,
    )
    return replace(needs, load=_largest_source(model))


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
        ModelError: the model cannot be served, whatever the memory.
    """
    try:
        needs = needs_of_served(model, config)
    except ModelError:
        raise
    except Exception as error:  # of any type: a graph that cannot be traced, say
        return reason_of(error)
    return judge(
        needs,
        free,
        context_length=model.context_length,
        max_batch_size=1 if model.type == "embedding" else config.max_batch_size,
        is_configured=model.has_configured_context,
    )


def weigh(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, Weighed]:
    """The verdict on each model, by id, if those before it are loaded. Loads none."""
    free, weighed = free_after(config, 0), {}
    counted: set[Path] = set()
    for model in models:
        if model.weights in counted:  # ids that serve the same weights share them
            weighed[model.id] = Weighed("yes", "shares the weights of another model", True)
            continue
        try:
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
        counted.add(model.weights)
    return weighed
