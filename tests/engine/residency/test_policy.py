"""Who makes room, who waits, and how the models change; without any model."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.engine_process import generate, serve_tiny

from mlxnode.engine.residency.catalog import Catalog
from mlxnode.engine.residency.known import KnownModel, LoadedRunner, WeightsKey, is_same
from mlxnode.engine.residency.policy import fewest_to_unload
from mlxnode.engine.residency.waiting import WaitingForModel
from mlxnode.engine.work import RequestKey

FOLDER = Path("/models/one")


@pytest.mark.parametrize(
    ("sizes", "needed", "going"),
    [
        ([3, 2, 4], 0, []),
        ([3, 2, 4], 2, [0]),
        ([3, 2, 4], 5, [0, 1]),
        ([1, 2, 4], 4, [2]),  # the first two are not needed in the end
        ([1, 2, 4], 5, [0, 2]),
        ([1, 2, 4], 7, [0, 1, 2]),
        ([1, 2, 4], 8, None),
        ([], 1, None),
    ],
)
def test_policy_unloads_the_first_ones_and_no_more_than_needed(sizes, needed, going):
    found = fewest_to_unload(
        range(len(sizes)), lambda those: sum(sizes[each] for each in those) >= needed
    )
    assert found == going


def test_waiting_requests_share_the_places_among_the_keys():
    waiting = WaitingForModel()
    for uid in range(4):
        assert not waiting.is_full_for("a", 4)
        waiting.add(RequestKey(1, uid), generate(uid, key="a"))
    assert waiting.is_full_for("a", 4)
    assert not waiting.is_full_for("b", 4)  # it has less than its share
    for uid in (10, 11):
        waiting.add(RequestKey(1, uid), generate(uid, key="b"))
    assert waiting.is_full_for("b", 4)
    assert waiting.remove(RequestKey(1, 10)) and not waiting.remove(RequestKey(1, 10))
    assert not waiting.is_full_for("b", 4)
    assert [key.uid for key in waiting.take_all()] == [0, 1, 2, 3, 11]
    assert not waiting and not waiting.is_full_for("a", 1)


def test_models_share_weights_of_the_same_files_only():
    first = serve_tiny(FOLDER, "first")
    assert WeightsKey.of(first) == WeightsKey.of(replace(first, id="other", context_length=9))
    for change in (
        {"adapter": Path("/adapters/one")},
        {"quantize": 4},
        {"created": 1},  # the files were written again
        {"weights": Path("/models/two")},
        {"type": "embedding"},
    ):
        assert WeightsKey.of(first) != WeightsKey.of(replace(first, **change))
    adapted = WeightsKey.of(replace(first, adapter=Path("/adapters/one")))
    assert adapted.base == WeightsKey.of(first).base


def test_settings_of_requests_need_no_other_load():
    first = serve_tiny(FOLDER)
    for change in ({"default_temperature": 0.5}, {"is_pinned": True}, {"idle_unload": 1.0}):
        assert is_same(first, replace(first, **change))
    for change in ({"context_length": 9}, {"kv_cache_bits": 4}, {"quantize": 8}):
        assert not is_same(first, replace(first, **change))


def test_catalog_keeps_replaces_and_drops_models():
    kept, changed, gone = (serve_tiny(FOLDER, id) for id in ("kept", "changed", "gone"))
    catalog = Catalog()
    assert catalog.configure([kept, changed, gone]) == []
    before = dict(catalog.models)
    for model in before.values():
        model.is_wanted = False
        model.loaded = LoadedRunner(model.key, None, {}, 512, models=[model])
    before["changed"].waiting.add(RequestKey(1, 1), generate(1))
    other = replace(changed, context_length=99, preload=False)
    lazy = serve_tiny(FOLDER, "lazy", preload=False)
    pinned = replace(kept, is_pinned=True, default_temperature=0.1)
    replaced = catalog.configure([pinned, other, lazy])
    assert replaced == [before["changed"], before["gone"]] == catalog.gone
    assert all(model.is_gone and model.state == "unloading" for model in replaced)
    assert catalog.models["kept"] is before["kept"] and before["kept"].is_pinned
    assert before["kept"].served == pinned and not before["kept"].is_asked_for
    assert not before["changed"].waiting and len(catalog.models["changed"].waiting) == 1
    assert catalog.models["changed"].is_wanted  # as it was loaded before
    assert not catalog.models["lazy"].is_asked_for
    assert catalog.is_replacing(catalog.models["changed"])


def test_pin_of_the_configuration_counts_only_when_it_changes():
    catalog = Catalog()
    served = serve_tiny(FOLDER)
    catalog.configure([served])
    model = catalog.models["tiny"]
    model.is_pinned = True  # by an order at run time
    catalog.configure([replace(served, idle_unload=5.0)])
    assert model.is_pinned
    catalog.configure([replace(served, is_pinned=True)])
    catalog.configure([served])
    assert not model.is_pinned


def test_model_goes_after_its_idle_time_unless_it_is_pinned_or_busy():
    model = KnownModel(serve_tiny(FOLDER, idle_unload=10.0, preload=False), is_pinned=False)
    assert model.changes_at == float("inf")  # it is not loaded
    model.loaded = LoadedRunner(model.key, None, {}, 512, models=[model])
    model.used_at, model.ended_at = 100.0, 130.0
    assert model.changes_at == 140.0
    assert model.idle_seconds(135.0) == 5.0
    model.requests.add(RequestKey(1, 1))
    assert model.changes_at == float("inf") and model.idle_seconds(135.0) is None
    model.requests.clear()
    model.is_pinned = True
    assert model.changes_at == float("inf")
