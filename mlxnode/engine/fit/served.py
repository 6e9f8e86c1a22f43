"""The verdict on a configured model, from its files."""

from collections.abc import Generator, Sequence
from dataclasses import replace

from mlxnode.config.hostfile import read_hostfile
from mlxnode.config.tables import EngineConfig
from mlxnode.engine import cpu
from mlxnode.engine.embedding.encoders import open_encoder
from mlxnode.engine.fit.encoder import encoder_needs
from mlxnode.engine.fit.needs import needs_in_pieces
from mlxnode.engine.kvcache.quantization import kv_choices
from mlxnode.engine.loader import open_generation_model, split
from mlxnode.engine.loader.adapter import adapter_arrays
from mlxnode.engine.memory.plan import free_after
from mlxnode.engine.pacing import largest_chunk
from mlxnode.engine.weights import read_arrays
from mlxnode.errors import ModelError, reason_of
from mlxnode.models.fit import MemoryNeeds, Verdict, Weighed, judge
from mlxnode.models.gguf.folder import read_tensors
from mlxnode.models.served import ServedModel


def needs_of_served(model: ServedModel, config: EngineConfig) -> MemoryNeeds:
    """As ``needs_of_served_in_pieces``, at once."""
    pieces = needs_of_served_in_pieces(model, config)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def needs_of_served_in_pieces(
    model: ServedModel, config: EngineConfig
) -> Generator[None, None, MemoryNeeds]:
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
    yield
    needs = yield from needs_in_pieces(
        opened,
        bits=config.kv_cache_bits,
        chunk=largest_chunk(),
        context_length=model.context_length,
        max_batch_size=config.max_batch_size,
    )
    bits = config.kv_cache_bits
    notes = [
        kv_choices(opened).text(bits) if bits else "",
        f"its weights are quantized to {model.quantize} bits" if model.quantize else "",
    ]
    return replace(needs, load=_largest_source(model), note="; ".join(filter(None, notes)))


def _largest_source(model: ServedModel) -> int:
    """The bytes of the largest array in the files, if it is converted while it is loaded."""
    if not cpu.is_used() and not model.quantize:
        return 0
    if model.weights.is_file():
        return max(tensor.end - tensor.start for tensor in read_tensors(model.folder))
    files = model.weights.glob("*.safetensors")
    arrays = {name: array for file in files for name, array in read_arrays(file).items()}
    return max((array.nbytes for array in arrays.values()), default=0)


def find_verdict(
    model: ServedModel, config: EngineConfig, free: int, shared: int = 0
) -> Verdict | str:
    """Whether ``model`` fits into ``free`` bytes, or why that is not known.

    ``shared`` bytes of its weights are in memory already, for other ids with the same base.

    Raises:
        ModelError: the model cannot be served, whatever the memory, or its weights alone do
            not fit and the rest cannot be traced.
    """
    try:
        needs = needs_of_served(model, config)
    except ModelError:
        raise
    except Exception as error:  # of any type: a graph that cannot be traced, say
        if model.quantize is None and model.size_bytes - shared > free:
            raise ModelError(
                f"does not fit: its weights alone need {model.size_bytes / 1e9:.2f} GB, "
                f"{free / 1e9:.2f} GB are free"
            ) from error
        return reason_of(error)
    if shared:
        weights = max(needs.weights - shared, _adapter_bytes(model))
        note = f"it shares {shared / 1e9:.2f} GB of weights with other models"
        note = "; ".join(filter(None, (needs.note, note)))
        needs = replace(needs, weights=weights, note=note)
    return judge(
        needs,
        free,
        context_length=model.context_length,
        max_batch_size=config.max_batch_size if model.generates_text else 1,
        is_configured=model.has_configured_context,
    )


def _adapter_bytes(model: ServedModel) -> int:
    """The bytes of the weights that no other id shares."""
    if model.adapter is None:
        return 0
    return sum(array.nbytes for array in adapter_arrays(model.adapter).values())


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
    """The verdict on each model, by id, if those before it are loaded. Loads none.

    On several machines, it is the verdict on the first one's parts.
    """
    if config.distributed is None:
        return _weigh(models, config)
    hosts = read_hostfile(config.distributed).hosts
    with split.imagined(len(hosts), config.distributed.strategy):
        return _weigh(models, config)


def _weigh(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, Weighed]:
    free, weighed = free_after(config, 0), {}
    counted: dict[tuple, ServedModel] = {}
    bases: dict[tuple, int] = {}  # bytes of the weights below adapters
    for model in models:
        try:
            first = counted.get(model.weights_key) if model.generates_text else None
            if first is not None:
                check_shared(first, model, config)
                weighed[model.id] = Weighed("yes", f"shares the weights of {first.id}", True)
                continue
            shared = bases.get(model.base_key, 0) if model.generates_text else 0
            verdict = find_verdict(model, config, free, shared)
        except ModelError as error:
            weighed[model.id] = Weighed("no", str(error), False)
            continue
        if isinstance(verdict, str):
            weighed[model.id] = Weighed(
                "?", f"it is not known whether it fits: {verdict}", True
            )
            free -= model.size_bytes - shared
            base = model.size_bytes
        else:
            weighed[model.id] = Weighed(verdict.short, verdict.text, verdict.fits)
            free -= verdict.needs.weights if verdict.fits else 0
            base = verdict.needs.weights - _adapter_bytes(model) if verdict.fits else 0
        if model.generates_text:
            counted[model.weights_key] = model
            bases[model.base_key] = shared or base
    return weighed
