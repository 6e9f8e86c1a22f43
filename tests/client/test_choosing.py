"""The model that a command asks for."""

import pytest

from mlxnode.client.choosing import choose, one_of_each
from mlxnode.client.requests import Model
from mlxnode.errors import RequestError

MODELS = [
    Model("org/broken", status="failed", reason="no memory"),
    Model("org/first", status="unloaded", aliases=["first"]),
    Model("org/loaded", status="loaded"),
    Model("vectors", "embedding", status="unloaded"),
]


def test_choose_takes_a_loaded_model_then_the_first_that_works():
    assert choose(MODELS, None, ["chat"]).id == "org/loaded"
    assert choose(MODELS[:2], None, ["chat"]).id == "org/first"
    assert [model.id for model in one_of_each(MODELS, ["chat", "embedding", "rerank"])] == [
        "org/loaded",
        "vectors",
    ]


def test_choose_knows_ids_and_aliases():
    assert choose(MODELS, "first", ["chat"]).id == "org/first"
    assert choose(MODELS, "vectors", ["chat", "embedding"]).id == "vectors"


@pytest.mark.parametrize(
    ("models", "wanted", "text"),
    [
        (MODELS, "frist", "no model frist; did you mean first"),
        (MODELS, "xyzzy", "no model xyzzy; it has org/broken, org/first"),
        (MODELS, "vectors", "vectors is of type embedding, not chat; chat models are"),
        (MODELS[:1], None, "org/broken cannot be served: no memory"),
        (MODELS[3:], None, "no chat model; it has vectors"),
        ([], None, "no chat model; it has none"),
    ],
)
def test_choose_says_why_there_is_none(models, wanted, text):
    with pytest.raises(RequestError, match=text):
        choose(models, wanted, ["chat"])
