"""The peak memory of a graph: which buffers exist together while it is evaluated.

MLX allocates the output of an operation when it launches the operation, and frees an input
when the device has computed its last use. The host launches operations ahead of the device, so
buffers are freed late: ``LEAD`` tasks later at the most. Until then, no operation takes over a
buffer that another operation has read as well.
"""

from collections import Counter, deque
from collections.abc import Collection

from mlxnode.engine.fit.graph import Graph, Operation

# Tasks that the host launches before the device has done the first of them: MLX allows ten
# bundles of ten (scheduler.h, and DISPATCHES_PER_TASK of the CPU's encoder). An operation is
# one task, and another that holds its inputs; a view is the latter alone.
LEAD = 110
# The output is a view of the input, without a buffer of its own.
_CONSTANT = ""  # the buffer of all constants
_VIEWS = {
    "AsStrided",
    "Broadcast",
    "BroadcastAxes",
    "Contiguous",
    "CustomTransforms",
    "Depends",
    "ExpandDims",
    "Flatten",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "StopGradient",
    "Transpose",
    "Unflatten",
    "View",
}
# These views need the elements of their input in order, and copy them otherwise.
_ORDERED = {"Contiguous", "Flatten", "Reshape", "View"}
# The output never takes the buffer of an input.
_FRESH = {
    "Concatenate",
    "Convolution",
    "Gather",
    "GatherAxis",
    "GatherMM",
    "GatherQMM",
    "Matmul",
    "Pad",
    "QuantizedMatmul",
    "Reduce",
    "AddMM",
    "BlockMaskedMM",
    "ArgReduce",
    "ArgPartition",
    "ArgSort",
    "Sort",
    "Partition",
    "Quantize",
}


def peak_bytes(graph: Graph, held: Collection[str], lead: int = LEAD) -> int:
    """The most bytes that exist at once, the inputs of ``graph`` included.

    The inputs in ``held`` exist until the end; the others are freed after their last use.
    """
    buffers = _Buffers(graph, held)
    freed: deque[tuple[int, int]] = deque()  # (launch, bytes), not yet computed
    now = peak = buffers.input_bytes
    launch = 0
    for operation in graph.operations:
        now += buffers.allocate(operation, launch, lead)
        peak = max(peak, now)
        launch += 1 if operation.name in _VIEWS else 2
        freed.append((launch, buffers.release(operation, launch)))
        while freed and freed[0][0] + lead <= launch:
            now -= freed.popleft()[1]
    return peak


class _Buffers:
    """The buffers of a graph, and how often each is still used."""

    def __init__(self, graph: Graph, held: Collection[str]):
        self._sizes, self._shapes = graph.sizes, graph.shapes
        self._read_at: dict[str, int] = {}  # the launch that read a buffer last
        self._computed = 0
        self._permuted: set[str] = set()  # arrays whose elements are not in their order
        self._of: dict[str, str] = {}  # array -> the array that its buffer was allocated for
        self._size_of: dict[str, int] = {}
        self._uses: Counter[str] = Counter()  # of the buffer of an array
        self._num_readers = Counter(
            name for operation in graph.operations for name in operation.inputs
        )
        for name in graph.outputs:
            self._num_readers[name] += 1
        for name in graph.inputs:
            self._new(name)
            if name in held:
                self._uses[name] += 1
        self.input_bytes = sum(self._size_of.values())
        self._uses[_CONSTANT] = len(graph.operations) * 100
        self._size_of[_CONSTANT] = 0

    def allocate(self, operation: Operation, launch: int, lead: int) -> int:
        """The bytes that the outputs of ``operation`` need."""
        self._computed = launch - lead  # the device has computed up to here
        total = 0
        for name in operation.outputs:
            source = self._shared(operation, name)
            if source is None:
                total += self._new(name)
            else:
                self._of[name] = source
                self._uses[source] += self._num_readers[name]
        return total

    def _is_copied(self, operation: Operation, output: str) -> bool:
        """True if elements have to be put into order; notes the order of the output."""
        (source, *_) = operation.inputs or ("",)
        is_permuted = source in self._permuted
        if operation.name in _ORDERED and is_permuted:
            return True
        if operation.name == "Transpose":
            shape = self._shapes[source]
            kept = [axis for axis in operation.axes if shape[axis] > 1]
            is_permuted = is_permuted or kept != sorted(kept)
        elif operation.name == "Slice":
            before, after = self._shapes[source], self._shapes[output]
            cut = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
            is_permuted = is_permuted or any(size > 1 for size in after[: max(cut, default=0)])
        elif operation.name in ("Split", "Broadcast"):
            is_permuted = is_permuted or self._sizes[source] != self._sizes[output]
        if is_permuted:
            self._permuted.add(output)
        return False

    def release(self, operation: Operation, launch: int) -> int:
        """The bytes that nobody uses after ``operation``."""
        total = 0
        taken = {self._of.get(name) for name in operation.outputs}
        for name in operation.inputs:
            buffer = self._of.get(name, _CONSTANT)
            self._uses[buffer] -= 1
            if buffer not in taken:
                self._read_at[buffer] = launch
            if self._uses[buffer] == 0:
                total += self._size_of.pop(buffer)
        return total

    def _new(self, name: str) -> int:
        self._of[name] = name
        self._uses[name] = self._num_readers[name]
        self._size_of[name] = self._sizes[name]
        return self._sizes[name]

    def _shared(self, operation: Operation, output: str) -> str | None:
        """The buffer that the output of ``operation`` shares, None if it gets its own."""
        if operation.name in _VIEWS:
            if self._is_copied(operation, output):
                return None
            return self._of.get(operation.inputs[0], _CONSTANT)
        if operation.name in _FRESH:
            return None
        for name in operation.inputs:
            buffer = self._of.get(name)
            if buffer is None or self._uses[buffer] != operation.inputs.count(name):
                continue
            if self._read_at.get(buffer, self._computed) > self._computed:
                continue
            if self._size_of[buffer] == self._sizes[output]:
                return buffer
        return None
