"""The machines in the box, with the facts that MLX and macOS report about them."""

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Mac:
    """One machine. Sizes in bytes; ``architecture`` as MLX names it."""

    chip: str
    architecture: str
    macos: str
    darwin: str  # the release of the kernel
    memory: int
    working_set: int  # what Metal recommends: two thirds of a small memory, 84% of a large one
    max_buffer: int

    @property
    def device_info(self) -> dict[str, str | int]:
        """What ``mx.device_info()`` returns there."""
        return {
            "device_name": self.chip,
            "architecture": self.architecture,
            "memory_size": self.memory,
            "max_recommended_working_set_size": self.working_set,
            "max_buffer_length": self.max_buffer,
            "resource_limit": 499_000,
        }


MACS = {
    "small": Mac(
        chip="Apple M1",
        architecture="applegpu_g13g",
        macos="14.7.1",
        darwin="23.6.0",
        memory=8 * GIB,
        working_set=5_726_623_061,
        max_buffer=3584 << 20,
    ),
    "large": Mac(
        chip="Apple M5 Max",
        architecture="applegpu_g17s",
        macos="26.1",
        darwin="25.1.0",
        memory=128 * GIB,
        working_set=int(107.52 * GIB),
        max_buffer=72 * GIB,
    ),
}
