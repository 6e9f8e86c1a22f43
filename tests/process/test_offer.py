"""How a new offer reaches the children: the engine first, and confirmed by all."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlxnode.config.file import LoadedConfig
from mlxnode.config.keys import ApiKey
from mlxnode.config.tables import ApiConfig, ModelConfig, NodeConfig, ServerConfig
from mlxnode.messages.control import Access, FailedModels, Fits, Models, Ping
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel
from mlxnode.process.changes import NodeModels
from mlxnode.process.crashes import EngineCrashes
from mlxnode.process.offer import CONFIRM_TIMEOUT, Offer
from mlxnode.process.watch import Answer, Reload

FITS = Weighed("yes", "fits", True)


class FakeChild:
    """What an offer knows of a child."""

    def __init__(self, *arguments: object):
        self.arguments = arguments
        self.sent = []
        self.is_ready = True
        self.incarnation = 1
        self.send = self.sent.append

    def take(self) -> list[type]:
        """The types of the messages since the last call."""
        kinds = [type(message) for message in self.sent]
        self.last = {type(message): message for message in self.sent}
        self.sent.clear()
        return kinds


def served(id: str, **changes: object) -> ServedModel:
    path = Path("/m") / id
    model = ServedModel(id, "chat", path, path, "llama", 512, None, None, 1, 1)
    return replace(model, **changes)


def config_of(*ids: str, **api: object) -> NodeConfig:
    tables = {id: ModelConfig(path=f"/m/{id}", type="chat") for id in ids}
    return NodeConfig(api=ApiConfig(models=tables, **api))


class Node:
    """An offer over fake children."""

    def __init__(self):
        self.engine = FakeChild()
        self.crashes = EngineCrashes()
        models = [served("a"), served("b")]
        config = config_of("a", "b")
        self.workers = [FakeChild(0, config, models, Access(keys=[]), None) for _ in range(2)]
        self.offer = Offer(config, NodeModels(models), self.engine, self.workers, self.crashes)

    def reload(self, *models: ServedModel, **changes: object) -> Answer:
        answer = Answer()
        config = changes.pop("config", config_of(*(model.id for model in models)))
        failed, aliases = changes.pop("failed", {}), changes.pop("aliases", {})
        key = ApiKey.unnamed("sk-1")
        loaded = LoadedConfig(None, config, "h", 1, [key], aliases=aliases)
        offered = NodeModels(list(models), failed, aliases)
        self.offer.replace(Reload(loaded, offered, ["something"], [answer]))
        return answer

    def confirm(self, *children: FakeChild) -> None:
        for child in children:
            self.offer.note_pong(child, child.last[Ping].sequence)


@pytest.fixture
def node() -> Node:
    return Node()


def test_the_engine_knows_the_models_before_the_workers_and_all_before_the_answer(node):
    answer = node.reload(served("a"), served("c"), aliases={"short": "c"})
    assert node.engine.take() == [Models, Ping]
    for worker in node.workers:
        assert worker.take() == [Fits, Access]  # a key that is gone is so at once
    node.confirm(node.engine)
    for worker in node.workers:
        assert worker.take() == [Models, FailedModels, Ping]
        told = worker.last[Models]
        assert [model.id for model in told.models] == ["a", "c"]
        assert (told.types, told.aliases) == ({"a": "chat", "c": "chat"}, {"short": "c"})
    node.confirm(node.workers[0])
    assert not answer.done()
    node.confirm(node.workers[1])
    assert answer.result(0) == ["something"]


def test_later_workers_and_engines_start_with_the_new_offer(node):
    node.crashes.failed_models["a"] = "it crashes"
    node.reload(served("a"), served("c"), config=config_of("a", "c", cors_enabled=False))
    for worker in node.workers:
        index, config, models, access, store = worker.arguments
        assert (index, store) == (0, None)
        assert list(config.api.models) == ["a", "c"]
        assert [model.id for model in models] == ["a", "c"]
        assert [key.id for key in access.keys] == [ApiKey.unnamed("sk-1").id]
    assert [model.id for model in node.offer.engine_models] == ["c"]
    node.reload(served("a", context_length=7), served("c"))  # another one is tried again
    assert [model.id for model in node.offer.engine_models] == ["a", "c"]


def test_engine_is_not_told_a_model_again_that_ended_it_unless_it_is_another_one(node):
    for _ in range(3):  # the deaths of engines that were loading it
        node.crashes.note_start()
        node.crashes.note_loading("a")
        node.crashes.note_death()
    node.offer.note_failed("crashes", node.crashes.failed_models)
    node.reload(served("a"), served("b"), served("c"))
    node.engine.take()
    assert [model.id for model in node.engine.last[Models].models] == ["b", "c"]
    assert list(node.offer.failures.reasons) == ["a"]
    node.reload(served("a", size_bytes=2), served("b"), served("c"))
    node.engine.take()
    assert [model.id for model in node.engine.last[Models].models] == ["a", "b", "c"]
    assert node.offer.failures.reasons == {}


def test_what_waits_for_the_next_start_is_in_no_argument(node):
    config = config_of("a").model_copy(update={"server": ServerConfig(workers=9)})
    node.reload(served("a"), config=config)
    assert node.workers[0].arguments[1].server == ServerConfig()


def test_children_that_die_confirm_nothing(node):
    answer = node.reload(served("a"))
    node.engine.is_ready = False
    node.offer.update(0)
    assert node.workers[0].take()[-1] is Ping
    node.workers[0].incarnation = 2
    node.workers[1].is_ready = False
    node.offer.update(0)
    assert answer.result(0) == ["something"]


def test_children_that_are_silent_are_not_waited_for_for_ever(node):
    answer = node.reload(served("a"))
    node.offer.update(node.offer._deadline - CONFIRM_TIMEOUT / 2)
    assert node.workers[0].take() == [Fits, Access]
    node.offer.update(node.offer._deadline + 0.1)
    assert Models in node.workers[0].take() and not answer.done()
    node.offer.update(node.offer._deadline + 0.1)
    assert answer.done()


def test_a_second_reload_overtakes_the_first_one_and_both_are_answered(node):
    first = node.reload(served("a"), served("c"))
    node.engine.take()
    old = node.engine.last[Ping].sequence
    second = node.reload(served("a"), served("d"))
    node.offer.note_pong(node.engine, old)
    assert Models not in node.workers[0].take()
    node.engine.take()
    node.confirm(node.engine)
    assert [model.id for model in node.workers[0].sent[0].models] == ["a", "d"]
    for worker in node.workers:
        worker.take()
    node.confirm(*node.workers)
    assert first.done() and second.done()


def test_a_pong_of_a_usual_ping_confirms_nothing(node):
    node.reload(served("a"))
    node.offer.note_pong(node.engine, 1)
    assert Models not in node.workers[0].take()


def test_a_worker_that_becomes_ready_is_told_the_models_and_the_verdicts(node):
    node.offer.note_fit(served("a"), FITS)
    worker = node.workers[0]
    worker.take()
    node.offer.tell(worker)
    assert worker.take() == [Models, Fits]
    assert worker.last[Fits].verdicts == {"a": FITS}


def test_verdicts_of_models_that_have_changed_are_forgotten(node):
    for id in "ab":
        node.offer.note_fit(served(id), FITS)
    assert node.offer.unweighed == []
    changed = served("b", context_length=9)
    node.reload(served("a"), changed, served("c"))
    assert list(node.offer.fits.verdicts) == ["a"]
    assert [model.id for model in node.offer.unweighed] == ["b", "c"]
    node.offer.note_fit(served("b"), FITS)  # of the one before
    assert list(node.offer.fits.verdicts) == ["a"]


def test_failures_follow_the_models(node):
    node.offer.note_failed("engine", {"b": "it is broken"})
    assert node.workers[0].sent[-1] == FailedModels({"b": "it is broken"})
    node.reload(served("a"), served("b"), failed={"c": "no file"}, config=config_of(*"abc"))
    assert node.offer.failures.reasons == {"b": "it is broken", "c": "no file"}
    node.reload(served("a"), served("b", context_length=9))
    assert node.offer.failures.reasons == {}
    node.offer.note_failed("engine", {"b": "still broken", "gone": "?"})
    assert node.offer.failures.reasons == {"b": "still broken"}
