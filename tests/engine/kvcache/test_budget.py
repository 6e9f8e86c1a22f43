"""The memory budget of the KV caches."""

from mlxnode.engine.kvcache.budget import MemoryBudget


def test_budget_is_shared_between_owners():
    budget = MemoryBudget(100)
    assert budget.claim("a", 60)
    assert not budget.claim("b", 50)
    assert budget.claim("a", 40)
    assert budget.claim("b", 50)
