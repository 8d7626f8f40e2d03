import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving import context
from rheostat.serving.tracing import new_trace, trace_of

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LATER = b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later"


@pytest.mark.parametrize("parent", [PARENT, PARENT[:-2] + b"00", LATER])
def test_a_valid_parent_is_passed_on_as_it_came(parent):
    trace = trace_of([(b"host", b"x"), (b"traceparent", parent), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")])
    assert trace.headers == {"traceparent": parent.decode(), "tracestate": "a=1,b=2"}
    assert trace.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [b""],
        [b"garbage"],
        [PARENT.upper()],
        [b"ff" + PARENT[2:]],
        [PARENT + b"-more"],
        [b"00-" + b"0" * 32 + PARENT[35:]],
        [PARENT[:36] + b"0" * 16 + b"-01"],
        [PARENT, PARENT],
        [LATER + b"\xff"],
        [PARENT + b"\r\nx: y"],
    ],
)
def test_anything_else_begins_a_trace(parents):
    trace = trace_of([(b"traceparent", parent) for parent in parents] + [(b"tracestate", b"a=1")])
    assert trace.trace_id not in PARENT.decode()
    assert trace_of([(b"traceparent", trace.parent.encode())]).parent == trace.parent
    assert trace.state == ""


@given(st.binary(max_size=600))
def test_no_state_gets_through_that_a_header_may_not_hold(state):
    trace = trace_of([(b"traceparent", PARENT), (b"tracestate", state)])
    assert trace.state in ("", state.decode("latin-1"))
    assert trace.state.isprintable()


def test_outside_of_a_request_there_is_no_trace_no_wait_and_nothing_to_note():
    context.note(x=1)
    assert (context.trace_headers(), context.waited_s()) == ({}, 0.0)


def test_traces_differ():
    assert len({new_trace().trace_id for _ in range(100)}) == 100
