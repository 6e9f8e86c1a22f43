"""Which request is blamed when engines die: never one that others may be to blame for."""

import random

import pytest

from mlxnode.messages.control import Loaded, LoadFailed
from mlxnode.process.crashes import MAX_LOAD_CRASHES, EngineCrashes
from mlxnode.process.suspects import FORGET_AFTER, MAX_SUSPECTS, SuspectList


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_suspects_refuse_what_was_alone_in_two_deaths():
    suspects = SuspectList()
    assert not suspects.note_death([name(1)], 0)
    assert suspects.message.watched == [name(1)]
    assert suspects.note_death([name(1)], 1)
    assert suspects.message.refused == [name(1)]
    assert suspects.message.watched == []


def test_suspects_count_the_same_request_of_many_clients_once():
    suspects = SuspectList()
    assert not suspects.note_death([name(1)] * 32, 0)
    assert suspects.message.refused == []


def test_suspects_refuse_what_two_batches_have_in_common():
    suspects = SuspectList()
    suspects.note_death([name(i) for i in (1, 2, 3)], 0)
    assert suspects.note_death([name(i) for i in (1, 4, 5)], 1)
    assert suspects.message.refused == [name(1)]
    assert suspects.message.quarantined == []


@pytest.mark.parametrize("size", [2, 3, 5, 32, 100])
def test_suspects_find_the_culprit_of_a_batch_that_always_comes_together(size):
    for seed in range(20):
        draw, suspects = random.Random(seed), SuspectList()
        batch = [name(i) for i in range(size)]
        culprit, deaths = draw.choice(batch), 0
        while culprit not in suspects.message.refused:
            message = suspects.message
            innocent = [each for each in batch if each != culprit]
            draw.shuffle(innocent)
            free = [each for each in innocent if each not in message.quarantined]
            tried = [each for each in innocent if each in message.quarantined]
            room = message.limit - 1 if culprit in message.quarantined else len(tried)
            suspects.note_death([culprit, *free, *tried[:room]], deaths)
            deaths += 1
            assert not set(suspects.message.refused) - {culprit}
        assert deaths <= 2 + size.bit_length()


def test_suspects_that_end_well_are_cleared():
    suspects = SuspectList()
    suspects.note_death([name(1), name(2)], 0)
    suspects.note_death([name(1), name(2)], 1)
    assert set(suspects.message.quarantined) == {name(1), name(2)}
    suspects.clear(name(1))
    suspects.clear(name(1))
    assert suspects.message.quarantined == [name(2)]
    assert not suspects.note_death([name(1)], 2)


def test_suspects_are_forgotten_after_an_hour():
    suspects = SuspectList()
    suspects.note_death([name(1)], 0)
    suspects.note_death([name(1)], 1)
    suspects.note_death([name(2)], FORGET_AFTER + 2)
    assert suspects.message.refused == []
    assert suspects.message.watched == [name(2)]


def test_suspects_are_bounded():
    suspects = SuspectList()
    for i in range(MAX_SUSPECTS + 100):
        suspects.note_death([name(i)], 0)
    assert len(suspects.message.watched) == MAX_SUSPECTS
    assert name(0) not in suspects.message.watched


def test_crashes_without_a_request_and_without_a_record_are_unexplained():
    crashes = EngineCrashes()
    crashes.note_start()
    assert not crashes.note_death()  # the record was never opened
    crashes.record.open()
    crashes.note_start()
    assert not crashes.note_death()
    crashes.record.write([name(1)])
    assert crashes.note_death()
    crashes.note_start()
    assert not crashes.note_death()  # the next engine worked on nothing
    crashes.record.close()


def test_crashes_blame_the_step_or_the_model_that_is_loaded_between_the_steps():
    crashes = EngineCrashes()
    crashes.record.open()
    crashes.note_start()
    crashes.note_ready()
    crashes.note_loading("big")
    crashes.record.write([name(1)])
    assert crashes.note_death()  # in a step
    for _ in range(MAX_LOAD_CRASHES):
        assert crashes.failed_models == {}
        crashes.note_start()
        crashes.note_ready()
        crashes.note_loading("big")
        assert not crashes.note_death()  # in a piece of the model
    assert list(crashes.failed_models) == ["big"]
    crashes.record.close()


@pytest.mark.parametrize("end", [Loaded("good"), LoadFailed({"good": "why"})])
def test_crashes_after_a_load_have_another_reason(end):
    crashes = EngineCrashes()
    for _ in range(MAX_LOAD_CRASHES):
        crashes.note_start()
        crashes.note_ready()
        crashes.note_loading("good")
        crashes.take(end)
        crashes.note_death()
    assert crashes.failed_models == {}


def test_crashes_name_the_model_that_ends_the_engine_while_it_loads():
    crashes = EngineCrashes()
    for _ in range(MAX_LOAD_CRASHES):
        assert crashes.failed_models == {}
        crashes.note_start()
        crashes.note_loading("good")
        crashes.note_loading("bad")
        crashes.note_loading(None)
        assert not crashes.note_death()
    assert list(crashes.failed_models) == ["bad"]
    crashes.note_start()
    assert not crashes.note_death()
    crashes.note_loading("good")
    crashes.note_ready()
    for _ in range(MAX_LOAD_CRASHES):
        crashes.note_start()
        crashes.note_loading("good")
        assert not crashes.note_death()  # it was loaded before
    assert list(crashes.failed_models) == ["bad"]
