"""When a connection is late, without any socket: time is what each test says."""

from sanic.http import Stage

from mlxnode.server.http.deadlines import Deadlines

IDLE, HEAD, WRITE = 70.0, 60.0, 90.0


def limits() -> Deadlines:
    return Deadlines(idle=IDLE, head=HEAD, write=WRITE)


def test_a_connection_without_a_request_is_late_after_a_while():
    deadlines = limits()
    assert deadlines.exceeded(100, Stage.IDLE, 0, 0, 0) is None
    assert deadlines.exceeded(100 + IDLE, Stage.IDLE, 0, 0, 0) is None
    assert deadlines.exceeded(101 + IDLE, Stage.IDLE, 0, 0, 0) == "idle"


def test_each_request_begins_the_time_between_two_anew():
    deadlines = limits()
    for number in range(10):
        assert deadlines.exceeded(60 * number, Stage.IDLE, number, 0, 0) is None
    assert deadlines.exceeded(540 + IDLE + 1, Stage.IDLE, 9, 0, 0) == "idle"


def test_a_head_is_late_however_its_bytes_drip():
    """Nothing that the client sends within a head is an argument at all."""
    deadlines = limits()
    found = [deadlines.exceeded(now, Stage.REQUEST, 3, 0, 0) for now in range(0, 62, 2)]
    assert found == [None] * 31
    assert deadlines.exceeded(62, Stage.REQUEST, 3, 0, 0) == "head"


def test_the_head_of_the_next_request_has_its_own_time():
    deadlines = limits()
    assert deadlines.exceeded(0, Stage.REQUEST, 3, 0, 0) is None
    assert deadlines.exceeded(61, Stage.REQUEST, 4, 0, 0) is None
    assert deadlines.exceeded(122, Stage.REQUEST, 4, 0, 0) == "head"


def test_the_server_may_work_for_as_long_as_it_takes():
    deadlines = limits()
    for now in (0, 10_000, 1_000_000):
        assert deadlines.exceeded(now, Stage.HANDLER, 1, 0, 0) is None
        assert deadlines.exceeded(now, Stage.RESPONSE, 1, 10 * now, 0) is None


def test_a_write_without_progress_is_late():
    deadlines = limits()
    assert deadlines.exceeded(0, Stage.RESPONSE, 1, 100, 80) is None
    assert deadlines.exceeded(WRITE, Stage.RESPONSE, 1, 100, 80) is None
    assert deadlines.exceeded(WRITE + 1, Stage.RESPONSE, 1, 100, 80) == "write"


def test_what_is_written_meanwhile_is_no_progress():
    deadlines = limits()
    found = [
        deadlines.exceeded(now, Stage.RESPONSE, 1, 100 + now, 80 + now) for now in range(92)
    ]
    assert found == [None] * 91 + ["write"]


def test_a_slow_reader_is_not_late():
    deadlines = limits()
    for number in range(100):
        now = number * (WRITE - 1)
        assert deadlines.exceeded(now, Stage.RESPONSE, 1, 100_000, 99_000 - number) is None


def test_an_answer_that_is_still_read_is_no_idle_connection():
    deadlines = limits()
    for number in range(100):
        now = number * 50
        assert deadlines.exceeded(now, Stage.IDLE, 1, 100_000, 99_000 - number) is None
    assert deadlines.exceeded(5_000 + IDLE, Stage.IDLE, 1, 100_000, 0) == "idle"


def test_the_interval_of_the_checks_follows_the_shortest_limit():
    assert Deadlines(idle=70, head=60, write=90).interval == 5
    assert Deadlines(idle=70, head=0.8, write=90).interval == 0.1
    assert Deadlines(idle=0.01, head=60, write=90).interval == 0.05
