"""Which models fit, found out in a process of low priority beside the node."""

import queue
from pathlib import Path
from unittest.mock import ANY

import pytest
from support import tiny
from support.node_process import is_running

from mlxnode.config.tables import EngineConfig, ModelConfig
from mlxnode.models.describe import describe
from mlxnode.models.files import ModelFiles
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel
from mlxnode.process.fits import FitWeigher

pytestmark = pytest.mark.slow
TIMEOUT = 60


def served(id: str, folder: Path = Path("/m")) -> ServedModel:
    return ServedModel(id, "chat", folder, folder, "llama", 512, None, None, 1, 1)


@pytest.fixture
def make():
    """A weigher that is closed at the end, and the queue of its verdicts."""
    made = []

    def make(**options: object) -> tuple[FitWeigher, queue.Queue]:
        verdicts: queue.Queue = queue.Queue()
        made.append(FitWeigher(EngineConfig(), **options))
        made[-1].start(lambda model, weighed: verdicts.put((model.id, weighed)))
        return made[-1], verdicts

    yield make
    for weigher in made:
        weigher.close()


def test_weigher_tells_the_verdict_of_a_model(make, tmp_path):
    folder = tiny.make_chat_model(tmp_path / "m")
    table = ModelConfig(path=str(folder), type="chat")
    weigher, verdicts = make()
    weigher.weigh([describe("m", table, ModelFiles(folder, folder)), served("none")])
    id, weighed = verdicts.get(timeout=TIMEOUT)
    assert (id, weighed.short, weighed.fits) == ("m", "yes", True)
    assert "fits: 32 rows of 512 tokens" in weighed.text
    id, weighed = verdicts.get(timeout=TIMEOUT)
    assert (id, weighed.fits) == ("none", False)


def test_a_model_that_ends_the_process_is_skipped(make):
    weigher, verdicts = make(helper="support.fake_weigher")
    weigher.weigh([served(id) for id in ("a", "dies", "b", "dies", "c")])
    found = [verdicts.get(timeout=TIMEOUT) for _ in range(5)]
    assert [id for id, _ in found] == ["a", "dies", "b", "dies", "c"]
    assert [weighed.short for _, weighed in found] == ["yes", "?", "yes", "?", "yes"]
    assert "has died" in found[1][1].text and found[1][1].fits


def test_a_model_that_takes_too_long_is_skipped(make):
    weigher, verdicts = make(helper="support.fake_weigher", timeout=5.0)
    weigher.weigh([served("hangs"), served("a")])
    assert verdicts.get(timeout=TIMEOUT)[1].short == "?"
    assert verdicts.get(timeout=TIMEOUT)[1].short == "yes"


def test_new_models_replace_those_that_are_left(make):
    weigher, verdicts = make(helper="support.fake_weigher", timeout=5.0)
    weigher.weigh([served("hangs"), served("a"), served("b")])
    weigher.weigh([served("c")])
    assert [verdicts.get(timeout=TIMEOUT)[0] for _ in range(1)] in (["hangs"], ["c"])
    weigher.weigh([served("d")])
    ids = set()
    while "d" not in ids:
        ids.add(verdicts.get(timeout=TIMEOUT)[0])
    assert not ids & {"a", "b"}


def test_models_that_come_while_a_run_ends_have_a_process_of_their_own(make):
    weigher, verdicts = make(helper="support.fake_weigher")
    for count in range(20):
        weigher.weigh([served(f"m{count}")])
        assert verdicts.get(timeout=TIMEOUT) == (f"m{count}", Weighed("yes", ANY, True))


def test_one_process_weighs_all_models(make):
    weigher, verdicts = make(helper="support.fake_weigher")
    weigher.weigh([served(id) for id in "abcde"])
    assert len({verdicts.get(timeout=TIMEOUT)[1].text for _ in range(5)}) == 1


def test_the_process_ends_with_the_weigher(make):
    weigher, verdicts = make(helper="support.fake_weigher")
    weigher.weigh([served("a"), served("hangs")])
    pid = int(verdicts.get(timeout=TIMEOUT)[1].text)
    weigher.close()
    assert verdicts.get(timeout=TIMEOUT)[1].short == "?"
    assert not is_running(pid)


def test_weigher_does_without_a_process_where_there_is_none(make, monkeypatch):
    def refuse(module: str) -> None:
        raise BlockingIOError(11, "no process")

    monkeypatch.setattr("mlxnode.process.fits.start_helper", refuse)
    weigher, verdicts = make()
    weigher.weigh([served("a")])
    unknown: Weighed = verdicts.get(timeout=TIMEOUT)[1]
    assert unknown.short == "?" and "cannot be started" in unknown.text
