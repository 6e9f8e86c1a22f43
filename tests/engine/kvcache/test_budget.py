"""The memory budget of the KV caches."""

import mlx.core as mx
import pytest
from support import architectures

from mlxnode.engine.kvcache.budget import MemoryBudget, measure_caches
from mlxnode.errors import ModelError


def test_budget_is_shared_between_owners():
    budget = MemoryBudget(100)
    assert budget.claim("a", 60)
    assert not budget.claim("b", 50)
    assert budget.claim("a", 40)
    assert budget.claim("b", 50)


def test_a_model_of_metal_kernels_is_refused_where_there_is_no_gpu():
    with mx.stream(mx.cpu), pytest.raises(ModelError, match="Metal kernels, which need a GPU"):
        measure_caches(architectures.build("bitnet"))


def test_other_machines_bound_the_budget_until_their_model_is_gone():
    budget = MemoryBudget(100)
    budget.bound("model", 70)
    budget.bound("model", 60)
    assert budget.total == 60 and not budget.claim("a", 61) and budget.claim("a", 60)
    budget.resize(50)
    assert budget.total == 50
    budget.resize(200)
    assert budget.total == 60
    budget.drop("model")
    assert budget.total == 200
