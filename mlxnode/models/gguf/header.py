"""The header of a GGUF file: metadata and tensors.

Format: GGUF v2 and v3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The file is
foreign data, so each length and each count is compared with the bytes that are left, and with
the limits below, before anything is read or allocated.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

from mlxnode.errors import ModelError

Metadata = dict[str, Any]

_MAX_BYTES = 1 << 28  # of the header; that of a vocabulary of 262,144 tokens has 16 MB
_MAX_ELEMENTS = 1 << 24  # of all arrays of the metadata together
_MAX_KEY = 65_535  # bytes, the limit of the format
_MAX_NAME = 63  # bytes of the name of a tensor, the limit of ggml
_MAX_DIMENSIONS = 4  # the limit of ggml
_MAX_VALUES = 1 << 48  # of a tensor

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_BOOL = 7
# Format character of struct, by type of value.
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    _BOOL: "B",
    10: "Q",
    11: "q",
    12: "d",
}
_ALIGNMENT = "general.alignment"
_DEFAULT_ALIGNMENT = 32
_MIN_ENTRY = 8 + 4 + 1  # bytes of the shortest key with its value
_MIN_TENSOR = 8 + 4 + 4 + 8  # bytes of the shortest description of a tensor


class Tensor(NamedTuple):
    """A tensor of the file. ``start`` and ``end`` are its bytes, from the begin of the file.

    ``shape`` has the order of numpy, the width of a row last. ``kind`` is the name of a type
    of ggml, such as Q4_K.
    """

    name: str
    kind: str
    shape: list[int]
    start: int
    end: int


def read_header(file: Path) -> tuple[Metadata, list[Tensor]]:
    """The metadata, and the tensors in the order of their bytes.

    Raises:
        ModelError: the file is not a GGUF file, or its header is damaged.
    """
    try:
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return parse_header(data)
    except (ValueError, OSError) as error:  # ValueError: mmap of an empty file
        raise ModelError(f"{file}: not a readable GGUF file: {error}") from error


def first_value(file: Path, key: str) -> Any:
    """The value of ``key`` in the metadata, which is read no further; None: it is not there.

    Raises:
        ModelError: the file is not a GGUF file, or its header is damaged.
    """
    try:
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _Reader(data).first(key)
    except (ValueError, OSError) as error:
        raise ModelError(f"{file}: not a readable GGUF file: {error}") from error


def parse_header(data: bytes | mmap.mmap) -> tuple[Metadata, list[Tensor]]:
    """The same of the bytes of a file.

    Raises:
        ValueError: they are no GGUF file, or the header is damaged.
    """
    return _Reader(data).read()


class _Reader:
    def __init__(self, data: bytes | mmap.mmap):
        self._data = data
        self._at = 0
        self._size = min(len(data), _MAX_BYTES)
        self._num_elements = 0  # of arrays so far

    def read(self) -> tuple[Metadata, list[Tensor]]:
        num_tensors, num_entries = self._counts()
        metadata = self._metadata(num_entries)
        described = [self._tensor() for _ in range(num_tensors)]
        return metadata, self._placed(described, _alignment(metadata))

    def first(self, key: str) -> Any:
        """The value of ``key``; None: it is not there."""
        _, num_entries = self._counts()
        for _ in range(num_entries):
            name = self._string("a key", _MAX_KEY)
            value = self._value(name, self._number("I"))
            if name == key:
                return value
        return None

    def _counts(self) -> tuple[int, int]:
        """The numbers of tensors and of keys."""
        if self._take(4) != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version}; versions 2 and 3 are supported")
        return self._count("tensors", _MIN_TENSOR), self._count("keys", _MIN_ENTRY)

    def _metadata(self, num_entries: int) -> Metadata:
        metadata: Metadata = {}
        for _ in range(num_entries):
            key = self._string("a key", _MAX_KEY)
            if key in metadata:
                raise ValueError(f"the key {key!r} is there twice")
            metadata[key] = self._value(key, self._number("I"))
        return metadata

    def _value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self._string(f"the value of {key!r}", _MAX_BYTES)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise ValueError(f"the value of {key!r} has the unknown type {kind}")
        value = self._number(_SCALARS[kind])
        return bool(value) if kind == _BOOL else value

    def _array(self, key: str) -> list[Any]:
        kind = self._number("I")
        if kind == _ARRAY:
            raise ValueError(f"the value of {key!r} is an array of arrays")
        if kind != _STRING and kind not in _SCALARS:
            raise ValueError(f"the array {key!r} has the unknown type {kind}")
        width = 8 if kind == _STRING else struct.calcsize(_SCALARS[kind])
        count = self._count(f"elements of {key!r}", width)
        self._num_elements += count
        if self._num_elements > _MAX_ELEMENTS:
            raise ValueError(f"its arrays have more than {_MAX_ELEMENTS:,} elements")
        if kind == _STRING:
            return [self._string(f"element {i} of {key!r}", _MAX_BYTES) for i in range(count)]
        numbers = struct.unpack(f"<{count}{_SCALARS[kind]}", self._take(count * width))
        return [bool(number) for number in numbers] if kind == _BOOL else list(numbers)

    def _tensor(self) -> tuple[str, str, list[int], int, int]:
        """Name, type, shape, bytes and offset of the next tensor."""
        name = self._string("the name of a tensor", _MAX_NAME)
        num_dimensions = self._number("I")
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise ValueError(f"{name}: {num_dimensions} dimensions; 1 to 4 are possible")
        shape = [self._number("Q") for _ in range(num_dimensions)][::-1]
        kind, size = _size_of(name, self._number("I"), shape)
        return name, kind, shape, size, self._number("Q")

    def _placed(
        self, described: list[tuple[str, str, list[int], int, int]], alignment: int
    ) -> list[Tensor]:
        """The tensors with their places: in order, and none over another."""
        base = -(-self._at // alignment) * alignment
        tensors: list[Tensor] = []
        names: set[str] = set()
        end = base
        for name, kind, shape, size, offset in sorted(described, key=lambda it: it[-1]):
            start = base + offset
            if name in names:
                raise ValueError(f"the tensor {name} is there twice")
            if offset % alignment or start < end:
                raise ValueError(
                    f"{name}: offset {offset} is inside another tensor, or no "
                    f"multiple of {alignment}"
                )
            names.add(name)
            end = start + size
            tensors.append(Tensor(name, kind, shape, start, end))
        return tensors

    def _count(self, what: str, width: int) -> int:
        """A number of things, each of which has at least ``width`` bytes."""
        count = self._number("Q")
        if count * width > self._size - self._at:
            raise ValueError(f"{count} {what}, more than the file has bytes for")
        return count

    def _string(self, what: str, longest: int) -> str:
        length = self._number("Q")
        if length > longest:
            raise ValueError(f"{what} has {length} bytes; {longest} are possible")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{what} is no UTF-8: {error}") from error

    def _number(self, kind: str) -> Any:
        (number,) = struct.unpack(f"<{kind}", self._take(struct.calcsize(kind)))
        return number

    def _take(self, length: int) -> bytes:
        if length > self._size - self._at:
            raise ValueError(f"its header is cut off, or has more than {_MAX_BYTES:,} bytes")
        self._at += length
        return self._data[self._at - length : self._at]


def _alignment(metadata: Metadata) -> int:
    alignment = metadata.get(_ALIGNMENT, _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise ValueError(f"{_ALIGNMENT} must be from 1 to {1 << 20}, got {alignment!r}")
    return alignment


def _size_of(name: str, number: int, shape: list[int]) -> tuple[str, int]:
    """The name of the type ``number`` of ggml, and the bytes of a tensor of that type."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        kind = GGMLQuantizationType(number)
        block, size = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name}: unknown type {number}") from error
    values = 1
    for length in shape:
        values *= length
        if not 0 < values <= _MAX_VALUES:
            raise ValueError(f"{name}: shape {shape} has no values, or too many")
    if shape[-1] % block:
        raise ValueError(f"{name}: a row of {shape[-1]} values, no multiple of {block}")
    return kind.name, values // block * size
