"""The headers of Trace Context are read as the standard says, and nothing else is."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnode.server.http.trace import TraceContext, current, trace_lines, trace_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


def ids(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length)


def test_trace_is_that_of_the_header_with_a_span_of_its_own():
    trace = trace_of([VALID], ["a=1", " b@c=2 "])
    assert (trace.trace_id, trace.parent_id, trace.is_sampled) == (TRACE, PARENT, True)
    assert trace.state == "a=1,b@c=2"
    assert trace.span_id not in (PARENT, trace_of([VALID], []).span_id)
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-01"
    assert trace_of([f"00-{TRACE}-{PARENT}-00"], []).traceparent.endswith("-00")


@given(trace=ids(32), parent=ids(16), flags=ids(2))
def test_each_valid_header_is_read_and_its_answer_too(trace, parent, flags):
    found = trace_of([f"00-{trace}-{parent}-{flags}"], [])
    if set(trace) == {"0"} or set(parent) == {"0"}:
        assert found is None
        return
    assert (found.trace_id, found.parent_id) == (trace, parent)
    assert found.is_sampled == bool(int(flags, 16) & 1)
    again = trace_of([found.traceparent], [])
    assert (again.trace_id, again.parent_id) == (trace, found.span_id)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        [VALID, VALID],
        [VALID.upper()],
        [f"ff-{TRACE}-{PARENT}-01"],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE}-{PARENT}-01-more"],
        [f"00-{TRACE}-{PARENT}-01-"],
        [f"01-{TRACE}-{PARENT}-01.more"],
        [f"00-{TRACE[1:]}-{PARENT}-01"],
        [f"00-{TRACE}-{PARENT}-1"],
        [f"00-{TRACE}-{PARENT}"],
        [VALID + "\n"],
        [VALID.replace("4", "٤", 1)],
    ],
)
def test_a_header_that_is_not_valid_is_left_out(headers):
    assert trace_of(headers, ["a=1"]) is None


def test_headers_of_later_versions_may_have_more():
    for more in ("", "-what-will-come"):
        assert trace_of([f"cc-{TRACE}-{PARENT}-09{more}"], []).is_sampled


@given(st.lists(st.text(max_size=80), max_size=3), st.lists(st.text(max_size=80), max_size=3))
def test_no_header_raises(traceparent, tracestate):
    trace_of(traceparent, tracestate)
    assert trace_of([VALID], tracestate) is not None


@pytest.mark.parametrize(
    "state",
    ["a", "A=1", "a=1,a=2", "a=1;b=2\x00", "=1", ",".join(f"k{i}=1" for i in range(33))],
)
def test_a_state_that_is_not_valid_is_left_out_alone(state):
    trace = trace_of([VALID], [state])
    assert (trace.trace_id, trace.state) == (TRACE, "")


def test_new_traces_are_valid_and_differ():
    first, second = TraceContext.begin(), TraceContext.begin()
    assert first.trace_id != second.trace_id and first.parent_id is None
    assert trace_of([first.traceparent], []).trace_id == first.trace_id


def test_lines_of_the_log_have_the_trace_of_their_request(monkeypatch):
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger = logging.getLogger()
    monkeypatch.setattr(logger, "handlers", [Keeper()])
    trace_lines()
    trace = trace_of([VALID], [])
    token = current.set(trace)
    try:
        logging.getLogger("mlxnode.server").error("%s of %d", "all", 100)
    finally:
        current.reset(token)
    logging.getLogger("mlxnode.server").error("no request")
    assert lines == [
        f"all of 100 trace_id={TRACE} span_id={trace.span_id}",
        "no request",
    ]
