"""The limits of file descriptors."""

import contextlib
import resource

import pytest

from mlxnode.process import descriptors
from mlxnode.process.descriptors import (
    descriptor_limit,
    num_open_descriptors,
    raise_descriptor_limit,
    unchanged_limits,
)


class Limits:
    """The limits of an imagined system, which refuses soft limits above ``highest``."""

    def __init__(self, soft: int, hard: int, highest: int = 2**40):
        self.now = (soft, hard)
        self._highest = highest

    def get(self, _: int) -> tuple[int, int]:
        return self.now

    def set(self, _: int, limits: tuple[int, int]) -> None:
        if limits[0] > self._highest:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(256, UNLIMITED), (65_536, UNLIMITED)),
        (Limits(256, UNLIMITED, highest=10_240), (10_240, UNLIMITED)),  # as macOS may
        (Limits(256, 4096), (4096, 4096)),
        (Limits(256, 256), (256, 256)),
        (Limits(256, 1_048_576), (65_536, 1_048_576)),
        (Limits(100_000, UNLIMITED), (100_000, UNLIMITED)),
        (Limits(20_000, UNLIMITED, highest=10_240), (20_000, UNLIMITED)),
        (Limits(UNLIMITED, UNLIMITED), (UNLIMITED, UNLIMITED)),
        (Limits(256, UNLIMITED, highest=256), (256, UNLIMITED)),
    ],
)
def test_limit_is_raised_as_far_as_it_goes_and_never_lowered(
    monkeypatch, caplog, limits, expected
):
    caplog.set_level("INFO")
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    reached = 65_536 if expected[0] == UNLIMITED else expected[0]
    monkeypatch.setattr(descriptors, "descriptor_limit", lambda: reached)
    raise_descriptor_limit()
    assert limits.now == expected
    [record] = caplog.records
    assert f"at most {reached} " in record.message
    assert (record.levelname == "WARNING") == (reached < 1024)


def test_limit_is_that_of_the_process():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        assert descriptor_limit() == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_open_descriptors_are_counted():
    before = num_open_descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(open("/dev/null", encoding="ascii"))
        assert num_open_descriptors() == before + 3
    assert num_open_descriptors() == before


def test_changes_of_the_limits_are_ignored_only_for_a_time():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with unchanged_limits():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (2**62, 2**63 - 1))  # refused by the system
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    with pytest.raises(ValueError, match="limit"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (2, 1))
