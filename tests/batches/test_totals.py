"""How much is in the store, as another process reads it."""

import pytest
from support.batches import CHAT_URL, add

from mlxnode.batches.rows import Problem, Result
from mlxnode.batches.store import BatchStore
from mlxnode.batches.totals import read_totals
from mlxnode.server.metrics import families
from mlxnode.server.metrics.rendering import Order, render


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a folder?"


def test_totals_of_an_empty_folder_are_nothing_and_make_no_file(folder):
    totals = read_totals(folder)
    assert set(totals.num_open.values()) == {0} and not folder.exists()
    assert (totals.num_left, totals.stored_bytes) == (0, 0)


def test_totals_are_of_open_batches_and_of_all_files(folder):
    store = BatchStore(folder)
    begun, _, failed = (add(store, CHAT_URL, [{}] * 5, owner=key) for key in "aab")
    store.begin(begun, total=5, model=None)
    store.append(begun, [Result(1, b"{}", False), Result(2, b"{}", True)])
    store.fail(failed, [Problem("empty_file", "It is empty.")])
    totals = read_totals(folder)
    assert totals.num_open["in_progress"] == 1 and totals.num_open["validating"] == 1
    assert sum(totals.num_open.values()) == 2 and totals.num_left == 3
    paths = store.files.path("").iterdir()
    assert totals.stored_bytes == sum(path.stat().st_size for path in paths) > 0
    store.close()
    assert read_totals(folder) == totals  # nobody has it open


def test_metrics_have_the_totals_unless_the_store_is_damaged(folder):
    store = BatchStore(folder)
    add(store, CHAT_URL, [{}])
    store.close()
    order = Order(None, None, "text", is_compressed=False, store=folder)
    text = render(order).decode()
    assert 'mlxnode_batches{status="validating"} 1.0' in text
    assert 'mlxnode_batches{status="finalizing"} 0.0' in text
    assert all(f"\n{family.name}" in text for family in families.STORED)
    (folder / "batches.sqlite").write_bytes(b"damaged" * 1000)
    assert "mlxnode_batches" not in render(order).decode()
    assert "mlxnode_figures_up" in render(order).decode()
