"""Headers of GGUF files: whole ones are read, and damaged or hostile ones refused in time."""

import random
import resource
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from mlxnode.errors import ModelError
from mlxnode.models.gguf import header
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.gguf.header import read_header

U32, STRING, ARRAY, U64 = 4, 8, 9, 10
F32, Q4_K, REMOVED = 0, 12, 4  # types of tensors; 4 was a type of ggml once


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + content


def described(name: bytes, shape: list[int], kind: int = F32, offset: int = 0) -> bytes:
    numbers = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return text(name) + numbers


def content(entries: list[bytes], tensors: list[bytes], *, version: int = 3) -> bytes:
    counts = struct.pack("<IQQ", version, len(tensors), len(entries))
    return b"GGUF" + counts + b"".join(entries + tensors)


@pytest.fixture
def refused(tmp_path):
    """A function from the bytes of a file to the error it meets."""

    def refused(data: bytes) -> str:
        file = tmp_path / "m.gguf"
        file.write_bytes(data)
        started = time.process_time()
        with pytest.raises(ModelError) as caught:
            read_header(file)
        assert time.process_time() - started < 5
        assert str(caught.value).startswith(f"{file}: not a readable GGUF file: ")
        return str(caught.value)

    return refused


def test_header_has_what_gguf_py_wrote(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_bool("a.bool", True)
    writer.add_float32("a.float", 0.5)
    writer.add_array("a.texts", ["ä", ""])
    writer.add_array("a.numbers", [-1, 2])
    writer.add_array("a.bools", [True, False])
    writer.add_int64("a.low", -(1 << 60))
    writer.add_custom_alignment(64)
    writer.add_tensor("w", np.zeros((3, 5), np.float32))
    writer.add_tensor(
        "v", np.zeros((2, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata, tensors = read_header(tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert metadata == {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    assert metadata["a.bools"] == [True, False]
    assert [(t.name, t.kind, t.shape, t.start, t.end) for t in tensors] == [
        (
            t.name,
            t.tensor_type.name,
            t.shape.tolist()[::-1],
            t.data_offset,
            t.data_offset + t.n_bytes,
        )
        for t in reader.tensors
    ]
    assert tensors[1].start % 64 == 0


def test_header_refuses_counts_that_the_file_has_no_bytes_for(refused):
    many = 1 << 50
    assert f"{many} elements of 'k'" in refused(
        content([entry(b"k", ARRAY, array(0, many))], [])
    )
    assert f"{many} elements of 'k'" in refused(
        content([entry(b"k", ARRAY, array(STRING, many))], [])
    )
    assert "keys, more than" in refused(b"GGUF" + struct.pack("<IQQ", 3, 0, many))
    assert "tensors, more than" in refused(b"GGUF" + struct.pack("<IQQ", 3, (1 << 64) - 1, 0))
    assert "cut off" in refused(content([entry(b"k", STRING, struct.pack("<Q", 1 << 20))], []))
    assert "bytes" in refused(content([entry(b"k", STRING, struct.pack("<Q", many))], []))
    assert "a key has" in refused(content([struct.pack("<Q", many)], []) + bytes(99))


def test_header_refuses_arrays_that_are_large_in_all(refused, monkeypatch):
    monkeypatch.setattr(header, "_MAX_ELEMENTS", 100)
    entries = [entry(b"%d" % i, ARRAY, array(0, 40, bytes(40))) for i in range(3)]
    assert "more than 100 elements" in refused(content(entries, []))


def test_header_refuses_nested_arrays(refused):
    nested = array(0, 1, b"x")
    for _ in range(5000):
        nested = array(ARRAY, 1, nested)
    assert "'k' is an array of arrays" in refused(content([entry(b"k", ARRAY, nested)], []))


def test_header_refuses_other_formats_versions_and_types(refused):
    assert "does not begin with GGUF" in refused(b"GGML" + bytes(60))
    assert "version 1;" in refused(content([], [], version=1))
    assert "version 50331648" in refused(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))  # big-endian
    assert "unknown type 13" in refused(content([entry(b"k", 13, bytes(8))], []))
    assert "array 'k' has the unknown type" in refused(
        content([entry(b"k", ARRAY, array(99, 1, bytes(8)))], [])
    )
    assert "no UTF-8" in refused(content([entry(b"k", STRING, text(b"\xff"))], []))
    assert "no UTF-8" in refused(content([entry(b"\xff", U32, bytes(4))], []))
    twice = [entry(b"k", U32, bytes(4))] * 2
    assert "'k' is there twice" in refused(content(twice, []))


def test_header_refuses_tensors_that_cannot_be(refused):
    huge = 1 << 32
    cases = {
        "has no values": described(b"w", [4, 0]),
        "or too many": described(b"w", [huge, huge]),
        "5 dimensions": described(b"w", [1] * 5),
        "0 dimensions": described(b"w", []),
        "no multiple of 256": described(b"w", [128, 4], Q4_K),
        "unknown type 4": described(b"w", [4], REMOVED),
        "unknown type 999": described(b"w", [4], 999),
        "no multiple of 32": described(b"w", [4], offset=4),
        "the name of a tensor has 64 bytes": described(b"w" * 64, [4]),
    }
    for reason, tensor in cases.items():
        assert reason in refused(content([], [tensor]) + bytes(256)), reason


def test_header_refuses_tensors_that_overlap_or_are_there_twice(refused):
    first = described(b"w", [16])
    overlap = content([], [first, described(b"v", [16], offset=32)])
    assert "v: offset 32 is inside another tensor" in refused(overlap + bytes(256))
    twice = content([], [first, described(b"w", [16], offset=64)])
    assert "the tensor w is there twice" in refused(twice + bytes(256))


def test_header_refuses_alignments_that_cannot_be(refused):
    for kind, value in (
        (U32, struct.pack("<I", 0)),
        (U64, struct.pack("<Q", 1 << 62)),
        (STRING, text(b"8")),
        (ARRAY, array(0, 1, b"\x01")),
    ):
        entries = [entry(b"general.alignment", kind, value)]
        assert "general.alignment must be from 1" in refused(content(entries, []))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """A file with all kinds of values, and tensors that make a model of two layers."""
    file = tmp_path_factory.mktemp("whole") / "m.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<s>", "a", "b", "ab", "<call>", "<end>"])
    writer.add_token_types([3, 1, 1, 1, 4, 3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    for i in range(4):
        writer.add_tensor(f"blk.{i}.ffn_up.weight", np.zeros((6, 32), np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((6, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.read_bytes()


def open_mutant(file: Path, data: bytes) -> bool:
    """True if the file becomes a model folder; else the error names the file."""
    file.write_bytes(data)
    try:
        model_folder(file)
    except ModelError as error:
        assert str(error).startswith(str(file)), error
        return False
    return True


def test_header_of_a_cut_file_is_refused_at_every_length(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    _, tensors = read_whole(tmp_path, whole)
    for length in range(0, tensors[0].start - 32, 7):
        assert not open_mutant(tmp_path / f"{length}.gguf", whole[:length])


def read_whole(folder: Path, data: bytes) -> tuple:
    (folder / "whole.gguf").write_bytes(data)
    return read_header(folder / "whole.gguf")


@pytest.mark.slow  # hundreds of files
def test_header_with_random_bytes_ends_in_time_and_memory(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    _, tensors = read_whole(tmp_path, whole)
    assert open_mutant(tmp_path / "first.gguf", whole)
    chance, size = random.Random(0), tensors[0].start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    for i in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(size - 8)
            value = chance.choice((0, 1, 127, 255, chance.randrange(256)))
            if chance.random() < 0.3:  # a large number of 64 bits
                data[at : at + 8] = struct.pack("<Q", 1 << chance.randrange(64))
            else:
                data[at] = value
        open_mutant(tmp_path / f"{i}.gguf", bytes(data))
    assert time.process_time() - started < 60
    # Kilobytes on Linux, bytes on a Mac; the files have a few kilobytes each.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000 * (
        1024 if peak > 1 << 26 else 1
    )
