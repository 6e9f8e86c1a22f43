"""The figures of the node as /metrics has them."""

from msgspec.structs import replace
from support.metrics import Scrape
from support.scripted_node import MEMORY, figures_of_node

from mlxnode.figures import EngineFigures, ModelFigures, NodeFigures, RunnerFigures
from mlxnode.server.metrics.rendering import Order, render


def scraped(figures: NodeFigures | None) -> Scrape:
    return Scrape(render(Order(None, figures, "text", is_compressed=False)).decode())


def with_models(*models: ModelFigures) -> NodeFigures:
    engine = EngineFigures(memory=MEMORY, models=list(models))
    return replace(figures_of_node("k"), engine=engine)


def test_ids_with_the_same_weights_have_their_work_once():
    work = RunnerFigures(num_running=2, num_waiting=1, steps=9, prefix_bytes=5)
    found = scraped(
        with_models(
            ModelFigures(id="a", weight_bytes=0, work=work, state="unloaded", num_loads=1),
            ModelFigures(id="b", weight_bytes=7, work=work, same_as="a", num_loads=2),
            ModelFigures(id="c", weight_bytes=3, work=work),  # the same numbers, by chance
        )
    )
    assert found.sum("mlxnode_sequences_running") == 4
    assert found.sum("mlxnode_steps_total") == 18
    assert found.labels("mlxnode_prefix_cache_bytes", "model") == {"a", "c"}
    assert found.sum("mlxnode_model_weight_bytes", model="a") == 7
    assert found.sum("mlxnode_model_weight_bytes") == 10
    # What an id has of its own stays.
    assert found.labels("mlxnode_model_state", "model") == {"a", "b", "c"}
    assert found.sum("mlxnode_model_loads_total", model="b") == 2


def test_without_a_supervisor_there_is_nothing_but_that():
    assert list(scraped(None).families) == ["mlxnode_figures_up"]
