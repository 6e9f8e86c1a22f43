"""A worker whose keys and models a test may change."""

import pytest
from support.model_calls import wait_for_state

from mlxnode.messages.control import Access, Fits, Models


@pytest.fixture(scope="module")
def shared_worker(start_worker, served_models):
    with start_worker(served_models, {}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def keyed(shared_worker, served_models):
    """A worker with keys, whose keys, models and states a test may change."""
    types = {model.id: model.type for model in served_models}
    shared_worker.send(Access(keys=shared_worker.keys))
    shared_worker.send(Models(models=served_models, types=types))
    shared_worker.send(Fits({}))
    shared_worker.settle()
    shared_worker.connect_engine()
    wait_for_state(shared_worker, "tiny-chat", "loaded")
    return shared_worker
