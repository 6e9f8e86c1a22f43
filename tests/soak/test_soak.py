"""Some seconds of `make soak`: whatever a client did, the node holds nothing afterwards."""

import pytest
from fuzz.node import attacked_node
from soak.run import SPARE_DESCRIPTORS, failures, soak

pytestmark = pytest.mark.slow


async def test_mixed_load_leaves_nothing_behind(tmp_path):
    with attacked_node(tmp_path) as node:
        samples, outcomes = await soak(node, 10, seed=3)
    served = {kind for kind in outcomes if kind.endswith(("200", "left"))}
    assert len(served) >= 5, outcomes
    assert not failures(outcomes)
    for name in {one.process for one in samples}:
        counts = [one.descriptors for one in samples if one.process == name]
        assert counts[-1] <= counts[0] + SPARE_DESCRIPTORS, (name, counts)
