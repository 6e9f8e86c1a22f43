"""What shows that two machines have the same files of a model, without reading its weights."""

import hashlib
from pathlib import Path

_WEIGHTS = (".safetensors", ".gguf")
_TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
_MAX_HEADER = 100_000_000  # bytes, as safetensors itself allows
_GGUF_HEAD = 1 << 20  # bytes; its metadata is longer or shorter


def fingerprints(path: Path) -> dict[str, str]:
    """Name -> fingerprint of all files of a model that count.

    Of configuration, index and tokenizer the SHA-256; of weights their size and the SHA-256 of
    their header, which has names, types and places of all tensors.

    Raises:
        OSError: the path is not there, or a file cannot be read.
    """
    if path.is_file():
        return {path.name: _of_weights(path)}
    found = {}
    for file in sorted(path.iterdir()):
        if file.suffix in _WEIGHTS:
            found[file.name] = _of_weights(file)
        elif file.suffix in _TEXTS and file.is_file():
            found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def differences(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """The names of files that are missing on either side, or differ."""
    return sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))


def _of_weights(file: Path) -> str:
    with file.open("rb") as opened:
        head = opened.read(8)
        length = int.from_bytes(head, "little")
        if file.suffix == ".gguf" or length > _MAX_HEADER:
            length = _GGUF_HEAD
        digest = hashlib.sha256(head + opened.read(length)).hexdigest()
    return f"{file.stat().st_size}-{digest}"
