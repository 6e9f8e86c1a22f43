"""A process that works for another one. Its orders are tested with those who give them."""

import pytest

from mlxnode.process.helper_process import HelperProcess


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_process_that_reads_nothing_is_an_error_and_is_ended(size):
    """A large question does not fit into the buffer of the socket."""
    helper = HelperProcess("support.deaf_process", 0.3)
    with pytest.raises(OSError):
        helper.ask(b"first", bytes(size))
    assert helper.pid is None
