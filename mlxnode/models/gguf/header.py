"""The header of a GGUF file: metadata and tensors.

Format: GGUF v3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from pathlib import Path
from typing import Any

from mlxnode.errors import ModelError

Metadata = dict[str, Any]
Tensor = tuple[str, str, list[int], int]  # name, type, shape, end in the file


def read_header(file: Path) -> tuple[Metadata, list[Tensor]]:
    """The metadata, and name, type, shape and end of each tensor."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ModelError(f"{file}: not a readable GGUF file: {error}") from error
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    tensors = [
        (
            tensor.name,
            tensor.tensor_type.name,
            [int(size) for size in reversed(tensor.shape)],
            int(tensor.data_offset + tensor.n_bytes),
        )
        for tensor in reader.tensors
    ]
    return metadata, tensors
