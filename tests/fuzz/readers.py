"""Targets that read what others have written: JSON, outputs of models, headers of files."""

import contextlib
import importlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzz.bodies import MAKERS, Rng
from fuzz.target import Target

# --- strict JSON ------------------------------------------------------------------------


def _strict_json() -> Callable[[bytes], None]:
    strict_json = importlib.import_module("mlxnode.server.reading.strict_json")
    errors = importlib.import_module("mlxnode.server.errors")

    def run(data: bytes) -> None:
        """A value that Python's reader gives as well, or InvalidRequest."""
        try:
            value = strict_json.parse_json(data)
        except errors.InvalidRequest as error:
            assert error.message and len(error.message) <= 1000
            return
        assert isinstance(value, dict)
        text = json.dumps(value, allow_nan=False)  # no NaN, and nothing that is not JSON
        text.encode()  # no half surrogates: they would be escaped, and so
        assert "\\ud8" not in text or json.dumps(value, ensure_ascii=False).encode()
        assert strict_json.parse_json(text.encode()) == value

    return run


def _json_seeds() -> list[bytes]:
    rng = Rng(0)
    bodies = [make(rng) for make in MAKERS.values() for _ in range(3)]
    odd = [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN, "b": 1e999, "c": -0.0, "d": 1E400}',
        b'{"\\ud800": "\\udfff\\ud83d\\ude00"}',
        b'\xef\xbb\xbf{"a": "\x01"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b"[" * 2000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
    ]
    return [json.dumps(body).encode() for body in bodies] + odd


# --- output parsers ---------------------------------------------------------------------


def _output() -> Callable[[bytes], None]:
    parsing = importlib.import_module("mlxnode.server.parsing.output_parser")
    notations = importlib.import_module("support.notations")
    samples = importlib.import_module("support.notation_samples")
    known = [sample[0] for sample in samples.SAMPLES.values()]
    known += [notations.BARE, notations.HARMONY]

    def read(notation, parts: list[str], flags: int):
        parser = parsing.OutputParser(
            notation,
            tools=notations.use_of(notation) if flags & 1 else None,
            is_thinking=bool(flags & 2),
            is_expected_to_think=bool(flags & 4),
        )
        output = notations.read(parser, parts, is_cut=bool(flags & 8))
        calls = [(call.name, call.arguments) for call in output.calls]
        return output.content, output.reasoning, calls

    def run(data: bytes) -> None:
        """The same content, reasoning and calls, wherever the text is cut."""
        if len(data) < 3:
            return
        notation, flags = known[data[0] % len(known)], data[1]
        text = data[3:].decode(errors="replace")
        at = data[2] * len(text) // 256
        whole = read(notation, [text], flags)
        assert read(notation, [text[:at], text[at:]], flags) == whole
        for name, arguments in whole[2]:
            assert name in {function.name for function in notations.FUNCTIONS}
            if not flags & 8:
                json.loads(arguments)

    return run


def _output_seeds() -> list[bytes]:
    samples = importlib.import_module("support.notation_samples")
    seeds = []
    for number, (_, first, second) in enumerate(samples.SAMPLES.values()):
        for flags in (1, 3, 5, 9):
            text = f"Hm.</think>Well.\n{first}{second}"
            seeds.append(bytes([number, flags, 128]) + text.encode())
    return seeds


# --- headers of GGUF files --------------------------------------------------------------


def _gguf() -> Callable[[bytes], None]:
    header = importlib.import_module("mlxnode.models.gguf.header")
    errors = importlib.import_module("mlxnode.errors")
    folder = importlib.import_module("mlxnode.models.gguf.folder")

    def run(data: bytes) -> None:
        """A header whose tensors follow one another, and a model of it; or an error."""
        try:
            metadata, tensors = header.parse_header(data)
        except ValueError as error:
            assert len(str(error)) < 2000
            return
        assert len(metadata) <= len(data)
        end = 0
        for tensor in tensors:
            assert end <= tensor.start <= tensor.end
            end = tensor.end
        with contextlib.suppress(errors.ModelError):
            folder.parts_of(metadata, tensors)

    return run


def _gguf_seeds() -> list[bytes]:
    import gguf
    import numpy as np

    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(("F32", "Q8_0", "Q4_0")):
            file = Path(folder) / f"{number}.gguf"
            writer = gguf.GGUFWriter(file, "llama")
            writer.add_context_length(128)
            writer.add_array("tokenizer.ggml.tokens", ["a", "b", "é"])
            writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
            writer.add_bool("odd", True)
            values = gguf.GGMLQuantizationType[kind]
            data = gguf.quants.quantize(np.zeros((2, 32), np.float32), values)
            writer.add_tensor("output.weight", data, raw_dtype=values)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            seeds.append(file.read_bytes())
    return seeds


READERS = (
    Target(
        "json",
        ("mlxnode.server.reading.strict_json", "mlxnode.server.json_text"),
        _strict_json,
        _json_seeds,
    ),
    Target("output", ("mlxnode.server.parsing.output_parser",), _output, _output_seeds),
    Target(
        "gguf", ("mlxnode.models.gguf.header", "mlxnode.models.gguf.folder"), _gguf, _gguf_seeds
    ),
)
