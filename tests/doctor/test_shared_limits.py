"""What the doctor says of limits in Redis; tests/process has a real one."""

import importlib.util

from mlxnode.config.several import SharedLimitsConfig
from mlxnode.doctor.shared_limits import check_shared_limits


def test_a_node_that_counts_for_itself_needs_no_redis():
    assert check_shared_limits(SharedLimitsConfig()) == []


def test_a_missing_package_is_a_failure_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    [found] = check_shared_limits(SharedLimitsConfig.model_validate({"redis": "redis://h"}))
    assert found.status == "fail" and found.advice == "pip install 'mlxnode[redis]'"
