"""Run custom Metal kernels on the CPU, with every access to memory checked.

``emulate`` runs one launch; ``EmulatedKernel`` stands in for ``mx.fast.metal_kernel``.
"""

import ctypes
import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx
import numpy as np
from metal.build import build, source_line
from metal.capture import Launch, capture
from metal.translate import translate

Schedule = Literal["in_order", "reversed", "shuffled"]
Accuracy = Literal["library", "high", "low", "mixed"]
_ACCURACIES = ("library", "high", "low", "mixed")
_SCHEDULES = ("in_order", "reversed", "shuffled")
_metal_kernel = mx.fast.metal_kernel  # a test may replace it by EmulatedKernel


class MetalFault(RuntimeError):
    """The kernel did something that Metal forbids or leaves undefined, or it hangs."""


@dataclass(frozen=True)
class Traffic:
    """Bytes that a kernel's loads and stores moved, of a buffer of ``size`` bytes.

    ``untouched`` is how many bytes of an output nobody wrote.
    """

    size: int
    read: int
    written: int
    untouched: int

    @property
    def reads(self) -> float:
        """Bytes read in multiples of the size of the buffer."""
        return self.read / self.size


@dataclass(frozen=True)
class Run:
    """The outputs of a launch and its counts; ``traffic`` is empty if unchecked."""

    source: str  # that MLX would pass to the Metal compiler
    outputs: list[mx.array]
    threadgroups: int
    barriers: int  # of threadgroups, all together
    simd_operations: int  # of SIMD groups, all together
    threadgroup_bytes: int
    traffic: dict[str, Traffic]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("item", "writable", "filled")),
        *((name, ctypes.c_uint64) for name in ("read", "written", "untouched")),
    ]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("group", ctypes.c_uint32 * 3),
        ("schedule", ctypes.c_uint32),
        ("poison", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("step_limit", ctypes.c_uint64),
        ("accuracy", ctypes.c_uint32),
    ]


class _Report(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_uint64)
            for name in ("threadgroups", "barriers", "simd_operations", "threadgroup_bytes")
        ),
        ("base", ctypes.c_void_p),
        ("fault", ctypes.c_char * 2048),
    ]


def emulate(function: Callable, *arrays: mx.array, **options) -> Run:
    """Run the custom kernel that ``function(*arrays)`` calls; options as for ``run_launch``."""
    return run_launch(capture(function, *arrays), **options)


def run_launch(
    launch: Launch,
    *,
    init_value: float | None = None,
    checked: bool = True,
    schedule: Schedule = "in_order",
    seed: int = 0,
    poison: int = 0xFF,
    step_limit: int = 10**9,
    accuracy: Accuracy = "library",
) -> Run:
    """Run a captured launch.

    Args:
        init_value: what the outputs hold before, as of ``metal_kernel``
        checked: check every access; without, only barriers, SIMD-group functions and limits
        schedule: which thread runs first; ``seed`` is for "shuffled"
        poison: the byte that fills memory which nobody has written
        accuracy: of exp2, log, sqrt, ...: the C library's, or with the largest error that
            Metal's specification allows, upwards, downwards, or a share by argument
        step_limit: basic blocks that a threadgroup may run, against endless loops

    Raises:
        RefusedError: the source is outside of the supported subset
        MetalFault: the kernel did something wrong; the message says what and where
    """
    translation = translate(launch.source)
    library = build(translation.code, checked=checked)
    outputs = [
        _output(shape, dtype, init_value, poison)
        for shape, dtype in zip(launch.output_shapes, launch.output_dtypes, strict=True)
    ]
    inputs = _with_shapes([_numpy(array) for array in launch.inputs], translation.buffers)
    buffers = (_Buffer * len(translation.buffers))()
    for buffer, name, array in zip(buffers, translation.buffers, inputs + outputs, strict=True):
        buffer.name = name.encode()
        buffer.data, buffer.size, buffer.item = array.ctypes.data, array.nbytes, array.itemsize
    for buffer in buffers[len(inputs) :]:
        buffer.writable, buffer.filled = True, init_value is not None

    order = _SCHEDULES.index(schedule)
    errors = _ACCURACIES.index(accuracy)
    request = _Launch(launch.grid, launch.threadgroup, order, poison, seed, step_limit, errors)
    report = _Report()
    _load(library).emulator_run(
        ctypes.byref(request), buffers, len(buffers), ctypes.byref(report)
    )
    if report.fault:
        raise MetalFault(_explain(report, library, launch))
    return Run(
        launch.source,
        [
            _mlx(array, dtype)
            for array, dtype in zip(outputs, launch.output_dtypes, strict=True)
        ],
        report.threadgroups,
        report.barriers,
        report.simd_operations,
        report.threadgroup_bytes,
        {
            name: Traffic(buffer.size, buffer.read, buffer.written, buffer.untouched)
            for name, buffer in zip(translation.buffers, buffers, strict=True)
        }
        if checked
        else {},
    )


class EmulatedKernel:
    """A stand-in for ``mx.fast.metal_kernel`` whose calls run here and at once.

    ``runs`` keeps what each call did; ``options`` are those of ``run_launch``.
    """

    def __init__(self, *arguments, options: dict | None = None, **keywords):
        self.kernel = _metal_kernel(*arguments, **keywords)
        self.options = options or {}
        self.runs: list[Run] = []

    def __call__(self, *, inputs, init_value=None, **call) -> list[mx.array]:
        arrays = [x if isinstance(x, mx.array) else mx.array(x) for x in inputs]
        run = emulate(
            lambda *traced: self.kernel(inputs=list(traced), init_value=init_value, **call),
            *arrays,
            init_value=init_value,
            **self.options,
        )
        self.runs.append(run)
        return run.outputs


@functools.cache
def _load(library) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


def _explain(report: _Report, library, launch: Launch) -> str:
    """The fault, with addresses as lines of the source and the first such line quoted."""

    def line(match: re.Match) -> str:
        return source_line(library, int(match[1], 16) - report.base)

    text = re.sub(r"\{0x([0-9a-f]+)\}", line, report.fault.decode(errors="replace"))
    message = f"{launch.name}: {text}"
    source = dict(enumerate(launch.source.split("\n"), start=1))
    if (number := re.search(r"\(line (\d+)\)", text)) and int(number[1]) in source:
        message += "\n  " + source[int(number[1])].strip()
    return message


def _numpy(array: mx.array) -> np.ndarray:
    """The values in row-major order; bfloat16 as its bits, which NumPy has no type for."""
    if array.dtype == mx.bfloat16:
        array = array.view(mx.uint16)
    return np.ascontiguousarray(np.array(array)).reshape(array.shape)


def _mlx(array: np.ndarray, dtype: mx.Dtype) -> mx.array:
    return mx.array(array).view(dtype) if dtype == mx.bfloat16 else mx.array(array)


def _output(shape, dtype: mx.Dtype, init_value: float | None, poison: int) -> np.ndarray:
    array = _numpy(mx.full(shape, 0 if init_value is None else init_value, dtype=dtype))
    if init_value is None:
        array = np.full(max(array.nbytes, 1), poison, np.uint8)[: array.nbytes]
        array = array.view(_numpy(mx.zeros(1, dtype)).dtype).reshape(shape)
    return np.require(array, requirements="W")


def _with_shapes(inputs: list[np.ndarray], names: list[str]) -> list[np.ndarray]:
    """The inputs, each followed by its shape, strides and rank where the signature has them."""
    arrays: list[np.ndarray] = []
    rest, derived = list(inputs), {}
    for name in names:
        if name in derived:
            arrays.append(derived[name])
        elif rest:
            array = rest.pop(0)
            arrays.append(array)
            strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
            derived = {
                f"{name}_shape": np.array(array.shape, np.int32),
                f"{name}_strides": np.array(strides, np.int64),
                f"{name}_ndim": np.array([array.ndim], np.int32),
            }
    return arrays
