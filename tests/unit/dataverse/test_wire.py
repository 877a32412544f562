from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse.wire import UnsendableHead, request_head


def test_a_request_head_is_one_head() -> None:
    head = request_head(
        "POST",
        b"/api/data/v9.2/accounts?$select=name",
        b"contoso.crm4.dynamics.com",
        ((b"Accept", b"application/json"), (b"Prefer", b"")),
        b"Content-Length: 12\r\n",
    )
    assert head == (
        b"POST /api/data/v9.2/accounts?$select=name HTTP/1.1\r\n"
        b"Host: contoso.crm4.dynamics.com\r\n"
        b"Accept: application/json\r\n"
        b"Prefer: \r\n"
        b"Content-Length: 12\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", b"/a", ((b"X", b"a\r\nHost: evil"),)),
        ("GET", b"/a", ((b"X", b"a\nb"),)),
        ("GET", b"/a", ((b"X", b"a\rb"),)),
        ("GET", b"/a", ((b"X", b"a\0b"),)),
        ("GET", b"/a", ((b"X", b"a\x7fb"),)),
        ("GET", b"/a", ((b"X", b"a\r\n"),)),
        ("GET", b"/a", ((b"X Y", b"a"),)),
        ("GET", b"/a", ((b"X:Y\r\nZ", b"a"),)),
        ("GET", b"/a", ((b"", b"a"),)),
        ("GET", b"/a b", ()),
        ("GET", b"", ()),
        ("GET", b"/a\r\nX: y", ()),
        ("GET", b"/\xc3\xb6", ()),
        ("get", b"/a", ()),
        ("GET /b HTTP/1.1\r\nX: y\r\n", b"/a", ()),
        ("GET", b"/a", ((b"Host", b"evil"),)),
        ("GET", b"/a", ((b"content-length", b"3"),)),
        ("GET", b"/a", ((b"Transfer-Encoding", b"chunked"),)),
        ("GET", b"/a", ((b"Connection", b"close"),)),
        ("GET", b"/a", ((b"Upgrade", b"h2c"),)),
        ("GET", b"/a", ((b"Expect", b"100-continue"),)),
    ],
)
def test_a_head_that_could_be_two_is_not_sent(
    method: str, target: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    with pytest.raises(UnsendableHead):
        request_head(method, target, b"x", headers, b"")


@given(
    st.binary(max_size=20),
    st.lists(st.tuples(st.binary(max_size=10), st.binary(max_size=10)), max_size=3),
)
def test_whatever_is_sent_is_read_back_the_same(
    target: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    try:
        head = request_head("GET", target, b"x", tuple(headers), b"")
    except UnsendableHead:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    event = server.next_event()
    assert isinstance(event, h11.Request)
    assert event.target == target
    expected = [(name.lower(), value.strip(b" \t")) for name, value in headers]
    assert list(event.headers) == [(b"host", b"x"), *expected]
