"""What the engine process sets before it imports mlx."""

import os

import pytest

from mlxnode.config.tables import ApiConfig, NodeConfig
from mlxnode.engine import cpu, entry, main


@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("1", "1")])
def test_engine_computes_float32_as_float32_unless_told(monkeypatch, before, after):
    seen = []
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("MLX_ENABLE_TF32", None)
    if before is not None:
        os.environ["MLX_ENABLE_TF32"] = before
    monkeypatch.setattr(entry, "ignore_signals", lambda: None)  # this process, not a child
    monkeypatch.setattr(entry, "set_up_logging", lambda level: None)
    monkeypatch.setattr(
        cpu, "prepare_process", lambda: seen.append(os.environ["MLX_ENABLE_TF32"])
    )
    monkeypatch.setattr(main, "run", lambda *_: seen.append("run"))
    entry.run_engine(None, NodeConfig(api=ApiConfig()), [])
    assert seen == [after, "run"]
