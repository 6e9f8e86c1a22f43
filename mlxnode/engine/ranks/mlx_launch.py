"""``mlx.launch`` without its busy wait.

For each job, ``mlx.launch`` waits in a loop for "something to read, or room to write": there is
always room, so that it takes a whole core as long as the job runs. Here it waits for what there
is to read, and looks for room now and then; all else is MLX's own program.
"""

import select
from typing import Any

from mlx._distributed_utils import launch

_ROOM_SECONDS = 0.05  # until what the jobs are to read is passed on


def _patient_select(
    read: list[Any], write: list[Any], other: list[Any], timeout: float
) -> tuple[list[Any], list[Any], list[Any]]:
    if not write:
        return select.select(read, write, other, timeout)
    readable, _, _ = select.select(read, [], [], min(timeout, _ROOM_SECONDS))
    _, writable, _ = select.select([], write, [], 0)
    return readable, writable, []


if __name__ == "__main__":
    setattr(launch, "select", _patient_select)  # noqa: B010 - not in the stub
    launch.main()
