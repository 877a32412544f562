from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.traces import Traceparent, parse_traceparent, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01".encode()


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        pytest.param(GOOD, Traceparent(TRACE, PARENT, sampled=True), id="sampled"),
        pytest.param(
            GOOD[:-2] + b"00", Traceparent(TRACE, PARENT, sampled=False), id="not sampled"
        ),
        pytest.param(
            b"cc" + GOOD[2:] + b"-what-comes", Traceparent(TRACE, PARENT, sampled=True), id="later"
        ),
        pytest.param(GOOD + b"-more", None, id="00 with more"),
        pytest.param(b"ff" + GOOD[2:], None, id="version ff"),
        pytest.param(GOOD.upper(), None, id="upper case"),
        pytest.param(GOOD.replace(TRACE.encode(), b"0" * 32), None, id="no trace"),
        pytest.param(GOOD.replace(PARENT.encode(), b"0" * 16), None, id="no parent"),
        pytest.param(GOOD + b"\n", None, id="a line end"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_a_traceparent_is_read(value: bytes, parsed: Traceparent | None) -> None:
    assert parse_traceparent(value) == parsed


@given(st.binary(max_size=80))
def test_any_bytes_give_a_trace_or_none(value: bytes) -> None:
    parsed = parse_traceparent(value)
    assert parsed is None or len(parsed.trace_id) == 32


def test_a_trace_is_named_only_where_one_header_says_so() -> None:
    assert trace_id([(b"traceparent", GOOD)]) == TRACE
    assert trace_id([(b"traceparent", GOOD), (b"traceparent", GOOD)]) is None
    assert trace_id([(b"tracestate", GOOD)]) is None
