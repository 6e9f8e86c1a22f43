"""How the weights of a model are quantized, in a few words."""

from mlxnode.models.gguf.header import first_value
from mlxnode.models.plain_files import read_object
from mlxnode.models.served import ServedModel


def quantization_of(model: ServedModel) -> str:
    """For a table: "4 bits", "Q4_K_M", "8 bits, on load", or "" for weights as they are.

    Raises:
        ModelError: the files cannot be read.
    """
    if model.quantize is not None:
        return f"{model.quantize} bits, on load"
    if model.weights.suffix == ".gguf" and model.weights.is_file():
        return _of_gguf(model)
    config = read_object(model.folder / "config.json")
    table = config.get("quantization") or config.get("quantization_config")
    if not isinstance(table, dict):
        return ""
    bits = table.get("bits")
    if isinstance(bits, int):
        return f"{bits} bits"
    return str(table.get("quant_method") or table.get("mode") or "quantized")[:20]


def _of_gguf(model: ServedModel) -> str:
    from gguf import LlamaFileType

    value = first_value(model.weights, "general.file_type")
    try:
        return LlamaFileType(value).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return ""
