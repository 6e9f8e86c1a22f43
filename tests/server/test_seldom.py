"""Lines in the log that clients can cause."""

import logging

from mlxnode.server.seldom import SeldomLog


def test_a_kind_has_one_line_a_minute_and_counts_the_others(caplog):
    now = 0.0
    log = SeldomLog(logging.getLogger("test.seldom"), lambda: now)
    for now in range(0, 121, 1):
        log.log(logging.WARNING, "full", "%s: the queue is full", f"/{now}")
    log.log(logging.WARNING, "other", "another one")
    assert [record.getMessage() for record in caplog.records] == [
        "/0: the queue is full",
        "/60: the queue is full (and 59 more like this one before it)",
        "/120: the queue is full (and 59 more like this one before it)",
        "another one",
    ]


def test_kinds_that_clients_choose_are_bounded(caplog):
    now = 0.0
    log = SeldomLog(logging.getLogger("test.seldom"), lambda: now)
    for minute in range(2):
        now = 61.0 * minute
        for number in range(1000):
            log.log(logging.WARNING, str(number), "field %d", number)
    assert len(caplog.records) == 2 * 64
    assert len(log._kinds) <= 64
