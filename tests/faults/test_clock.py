"""A clock that is set while the node runs: by a time server, or by somebody who tries."""

import os

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Python imports it in each process of the node. The clock is right, ten years late and ten
# years early in turns, for half a second each.
_JUMPS = """
import time

_right = time.time


def time_with_jumps():
    turn = int(time.monotonic() * 2) % 3
    return _right() + (0, -1, 1)[turn] * 10 * 365 * 86400


time.time = time_with_jumps
"""


async def test_clock_that_jumps_by_years_disturbs_no_request(own_node, round, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_JUMPS)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    node = own_node(server="response_store = 10", env=os.environ | {"PYTHONPATH": path})
    await node.recovers()

    for number in range(20):
        answer = await node.answer(f"{round} {number}", 30)
        assert answer.status == 200
    body = {"model": "chat", "input": round, "max_output_tokens": 5}
    for _ in range(5):
        assert (await node.ask("/v1/responses", **body)).status == 200
    node.kill(node.engine_pid())
    await node.recovers()
    await node.is_clean()
