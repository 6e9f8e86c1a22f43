"""Some of the requests of `make fuzz`, against a whole node."""

import pytest
from fuzz.campaign import run
from fuzz.node import attacked_node, port_of
from support.node_process import API_KEY

pytestmark = pytest.mark.slow


@pytest.mark.long
async def test_generated_requests_get_answers_of_the_api(tmp_path):
    with attacked_node(tmp_path) as node:
        report = await run(port_of(node), API_KEY, seed=2, numbers=range(1000))
        assert not report.findings, "\n".join(report.findings)
        assert sum(report.statuses.values()) > 700
        assert report.statuses["valid 200"] > 50
        assert not [line for line in node.log if " ERROR " in line or "Traceback" in line]
