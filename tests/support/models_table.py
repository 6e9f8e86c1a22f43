"""Writes docs/models.md from the results of ``make test-models``.

Usage: PYTHONPATH=tests python -m support.models_table
"""

import json
from pathlib import Path

from support import families_table
from support.notation_templates import FAMILIES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "models"
DOCUMENT = ROOT / "docs" / "models.md"
TABLE = Path(__file__).with_name("architectures.json")
_HEAD = """# Models

`make test-models` makes this file: [adapters and quantization](#adapters-and-quantization),
[architectures](#architectures), and the language of [families](#families).

## Adapters and quantization

Two keys of a model's table change its weights while they are loaded:

```toml
[api.models.assistant]
path = "Qwen/Qwen3-8B"
type = "chat"
quantize = 4                # or 8

[api.models.assistant-formal]
path = "Qwen/Qwen3-8B"
type = "chat"
quantize = 4
adapter = "adapters/formal" # a folder, relative to this file, or a hub repo id
```

- **`adapter`** takes what `mlx_lm.lora` writes: `adapters.safetensors` and
  `adapter_config.json`, of the kinds lora, dora and full. The base can be an MLX or Hugging
  Face folder, quantized or not, or a GGUF file. Ids with the same `path` and `quantize` share
  the base in memory, with and without adapters, in whatever order they are loaded and
  unloaded; each id has its own batch and its own prefixes. mlx-lm has no DoRA for experts, and
  its gemma3n and kimi_k3 allow no adapter on every layer: name `keys` when you train. An
  adapter of PEFT, or one for another base, is refused with the reason. Models of the types
  embedding and rerank take no adapter.
- **`quantize`** quantizes layer by layer, as `mlx_lm.convert -q` does: in groups of 64, or 32
  where 64 does not divide the width, and with more bits where the model asks for them. The
  memory at load is that of the quantized weights and one layer. Folders whose weights are
  quantized already, GGUF files and encoders such as BERT are refused. On the CPU, weights are
  float32 in any case: `quantize` then changes their values, and saves no memory.

## Architectures

Which text architectures of mlx-lm are served, and how. Each cell is run on a tiny model with
random weights, in float32, on the CPU. Nothing here says how well a model answers, nor how
fast it is.

- **single**: a prompt alone gets the tokens of mlx-lm's own loop.
- **batched**: rows that join and leave at different steps get the tokens that they get alone.
- **prefix**: the same prompt, its next turn and a fork of it give the tokens of a cold start.
  The numbers are the tokens that came from the cache.
- **abort**, **n > 1**, **drafts**: requests that are aborted change no other; candidates draw
  what each draws alone; drafts change no text.
- **4-bit**: quantized weights from a folder, as *single*.
- **kv 8**, **kv 4**: with `kv_cache_bits`, *batched* and *prefix* hold; the layers that are
  quantized.

Tokens are compared as ids, and their log-probabilities within 0.002 (0.02 with
`kv_cache_bits`). Where the two most likely
tokens of mlx-lm are closer than 0.0001, either is right. "off" means that the node does
without, for the reason given; "inexact" that mlx-lm's own answers depend on how the prompt is
cut; **wrong** means that the cell fails.

"""
_COLUMNS = (
    *("single", "batched", "prefix", "abort", "n > 1"),
    *("drafts", "4-bit", "kv 8", "kv 4"),
)
_TITLES = ("architecture", "verdict", "caches", *_COLUMNS)


def rows(text: str) -> list[str]:
    """The rows of the table of architectures in a document."""
    return [line for line in text.splitlines() if line.startswith("| `")]


def row(name: str, cells: dict[str, list[str]] | None) -> str:
    """The row of one architecture; None: it has not been run."""
    if cells is None:
        return _line(name, "not run")
    state, note = cells["loads"]
    if state == "no":
        return _line(name, f"refused: {_text(note)}")
    shown = [_cell(*cells[column]) for column in _COLUMNS]
    return _line(name, _verdict(cells), note, *shown)


def _line(name: str, *cells: str) -> str:
    filled = [*cells, *[""] * (len(_TITLES) - 1 - len(cells))]
    return f"| `{name}` | {' | '.join(filled)} |"


def _verdict(cells: dict[str, list[str]]) -> str:
    if any(state == "no" for state, _ in cells.values()):
        return "**wrong**"
    if inexact := next((note for state, note in cells.values() if state == "inexact"), ""):
        return f"inexact: {inexact}"
    if slow := cells["batched"][1]:
        return f"slow: {slow}"
    return "supported"


def _cell(state: str, note: str) -> str:
    if state == "no":
        return f"**wrong**: {_text(note)}"
    if state == "inexact":
        return state
    return f"{state}: {_text(note)}" if note else state


def _text(note: str) -> str:
    return " ".join(note.split()).replace("|", "\\|")[:200]


def write() -> None:
    """Write the document. An architecture without a result is "not run"."""
    names = sorted(json.loads(TABLE.read_text()), key=str.lower)
    files = {name: RESULTS / f"{name}.json" for name in names}
    found = {
        name: json.loads(file.read_text()) if file.exists() else None
        for name, file in files.items()
    }
    lines = [row(name, cells) for name, cells in found.items()]
    head = f"| {' | '.join(_TITLES)} |\n|{'---|' * len(_TITLES)}\n"
    families = families_table.table(sorted(FAMILIES))
    DOCUMENT.write_text(_HEAD + head + "\n".join(lines) + "\n" + families)


if __name__ == "__main__":
    write()
