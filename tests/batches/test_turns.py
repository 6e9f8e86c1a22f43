"""Which line is next: one model after the other, the keys in turns, the oldest batch first."""

from collections import Counter

from mlxnode.batches.reading import Line
from mlxnode.batches.turns import MODEL_SECONDS, Pending, Turns


def pending(key: str, number: int, models: str) -> Pending:
    lines = [Line(i, 0, 10, model) for i, model in enumerate(models, start=1)]
    return Pending.of(key, number, lines)


def take(turns: Turns, batches: list[Pending], now: float = 1.0) -> tuple[int, int, str] | None:
    """The number of the batch, and the number and the model of its line."""
    chosen = turns.next(batches, now)
    if chosen is None:
        return None
    batch, model = chosen
    turns.note(batch.key)
    return batch.number, batch.take(model).number, model


def test_turns_keep_the_lines_of_one_model_together():
    turns, batches = Turns(), [pending("a", 1, "xyxyx")]
    taken = [take(turns, batches) for _ in range(5)]
    assert [one and one[2] for one in taken] == list("xxxyy")
    assert [one and one[1] for one in taken] == [1, 3, 5, 2, 4]
    assert take(turns, batches) is None


def test_turns_give_each_key_as_many_lines():
    turns = Turns()
    batches = [pending("a", 1, "x" * 50), pending("a", 2, "x" * 50), pending("b", 3, "x" * 50)]
    taken = [take(turns, batches) for _ in range(20)]
    assert Counter(one and one[0] for one in taken) == {1: 10, 3: 10}


def test_turns_take_the_oldest_batch_of_a_key_first():
    turns, batches = Turns(), [pending("a", 2, "x"), pending("a", 1, "x")]
    assert [one and one[0] for one in (take(turns, batches), take(turns, batches))] == [1, 2]


def test_turns_go_on_to_a_model_that_waits_too_long():
    turns, batches = Turns(), [pending("a", 1, "x" * 9), pending("b", 2, "y" * 9)]
    models = [
        take(turns, batches, now)[2] for now in (1.0, MODEL_SECONDS, 1 + MODEL_SECONDS, 70.0)
    ]
    assert models == ["x", "x", "y", "y"]
    assert take(turns, batches, 1 + 2 * MODEL_SECONDS)[2] == "x"


def test_turns_do_not_leave_the_only_model_that_has_lines():
    turns, batches = Turns(), [pending("a", 1, "x" * 3)]
    assert [take(turns, batches, now)[2] for now in (1.0, 1000.0, 2000.0)] == ["x", "x", "x"]
