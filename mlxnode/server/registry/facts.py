"""What is known of a model from its files, without opening it."""

import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxnode.models.plain_files import check_file, read_object
from mlxnode.models.rerank.config import read_reranker_config
from mlxnode.models.served import ServedModel
from mlxnode.server.prompt.tokenizers import FILL_IN_THE_MIDDLE

# Of a GGUF file's name: SmolLM2-135M-Instruct.Q4_1.gguf, gemma-3-IQ4_XS.gguf, model-f16.gguf.
_GGUF_KIND = re.compile(r"(?:^|[-._])((?:I?Q|TQ)\d\w*|BF16|F16|F32)(?=[-._]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Facts:
    """``quantization``: of the weights, in a word; None: there is none, or nothing says it.

    ``fills_in_the_middle``: a completion may have a suffix. ``takes_instruction``: a reranker
    can be told what a query asks for.
    """

    quantization: str | None = None
    fills_in_the_middle: bool = False
    takes_instruction: bool = False


def read_facts(served: ServedModel) -> Facts:
    """The facts about ``served``; those that its files do not tell are left out."""
    try:
        return Facts(
            quantization=_quantization(served),
            fills_in_the_middle=served.generates_text and _fills_in(served.folder),
            takes_instruction=served.type == "rerank"
            and read_reranker_config(served.folder).is_decoder,
        )
    except Exception:  # foreign files; opening the model says what is wrong with them
        return Facts()


def _quantization(served: ServedModel) -> str | None:
    if served.quantize is not None:
        return f"{served.quantize}-bit"
    if served.weights.suffix == ".gguf":
        kinds = _GGUF_KIND.findall(served.weights.stem)
        return kinds[-1].upper() if kinds else None
    file = served.folder / "config.json"
    config = read_object(file) if file.exists() else {}
    found = config.get("quantization") or config.get("quantization_config")
    return _in_a_word(found) if isinstance(found, dict) else None


def _in_a_word(quantization: dict[str, Any]) -> str | None:
    """As mlx-lm writes it (bits, group_size, mode), or as Hugging Face does (quant_method)."""
    mode = quantization.get("mode") or quantization.get("quant_method")
    bits = quantization.get("bits")
    if isinstance(mode, str) and mode != "affine":
        return mode[:40]
    return f"{bits}-bit" if isinstance(bits, int) else None


def _fills_in(folder: Path) -> bool:
    """True if the tokenizer has the tokens before, behind and between two texts."""
    file = folder / "tokenizer.json"
    if not file.exists():
        return True  # of another kind, which would have to be opened
    check_file(file)
    if not file.stat().st_size:
        return False
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text,
    ):
        return any(_has_all(text, markers) for markers in FILL_IN_THE_MIDDLE)


def _has_all(text: mmap.mmap, markers: Sequence[str]) -> bool:
    return all(
        any(text.find(spelled) >= 0 for spelled in (f'"{m}"'.encode(), _escaped(m)))
        for m in markers
    )


def _escaped(marker: str) -> bytes:
    """``marker`` as JSON in ASCII has it."""
    inner = "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in marker)
    return f'"{inner}"'.encode()
