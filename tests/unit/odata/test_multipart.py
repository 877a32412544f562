from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.odata.multipart import HEAD_BYTES_MAX, HttpRequest, MimePart, read_http, split

PART = b"Content-Type: application/http\r\n\r\nGET a HTTP/1.1\r\n\r\n"


def test_parts_stand_between_delimiter_lines() -> None:
    found = split(b"--b\r\nA: 1\r\n\r\nx\r\n--b\r\nB:2\r\n\r\ny\r\n--b--\r\n", "b")
    assert found == [MimePart({"a": "1"}, b"x\r\n"), MimePart({"b": "2"}, b"y\r\n")]


def test_bare_line_feeds_blank_lines_and_no_last_line_break_are_read() -> None:
    assert split(b"\n\n--b\n\n\nA: 1\n\nx\n--b--", "b") == [MimePart({"a": "1"}, b"x\n")]


def test_a_delimiter_is_a_whole_line() -> None:
    body = b"--b\r\nA: 1\r\n\r\nx--b\r\n--bb\r\n--b--x\r\n --b\r\n--b--"
    assert split(body, "b") == [MimePart({"a": "1"}, b"x--b\r\n--bb\r\n--b--x\r\n --b\r\n")]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"--b", b"--b\r\n" + PART, b"x--b\r\n" + PART + b"--b--",
        b"x\r\n--b\r\n" + PART + b"--b--", b"--b\r\n" + PART + b"--b--\r\nx",
        b"--b\r\nA\r\n\r\n--b--", b"--b\r\nA: 1\r\n--b--",
        b"--b\r\nA: 1\r\nA: 2\r\n\r\nx\r\n--b--", b"--b\r\nA: 1\r\n B: 2\r\n\r\nx\r\n--b--",
        b"--b\r\nA\x00: 1\r\n\r\nx\r\n--b--", b"--b\r\nA: 1\rB: 2\r\n\r\nx\r\n--b--",
    ],
)  # fmt: skip
def test_where_a_part_ends_must_be_clear(body: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        split(body, "b")
    assert caught.value.code == "bad-batch"


def test_a_request_is_line_headers_and_body() -> None:
    raw = b"\r\nPOST  a b?c=d e  HTTP/1.1 \r\nX: 1\r\ny:2\r\n\r\n {} \r\n\r\n"
    assert read_http(raw) == HttpRequest("POST", b"a b?c=d e", [(b"X", b"1"), (b"y", b"2")], b"{}")


def test_a_request_may_end_with_its_headers() -> None:
    assert read_http(b"GET a HTTP/1.1\r\nX: 1") == HttpRequest("GET", b"a", [(b"X", b"1")], b"")
    assert read_http(b"GET a HTTP/1.1") == HttpRequest("GET", b"a", [], b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"GET", b"GET a", b"GET a HTTP/1.0", b"GET a HTTP/1.1x", b"get a HTTP/1.1",
        b"GET  HTTP/1.1", b" GET a HTTP/1.1", b"GET\ta HTTP/1.1", b"GET a HTTP/1.1\r\nx",
        b"GET a HTTP/1.1\r\n: x",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        read_http(raw)
    assert caught.value.code == "bad-batch"


def test_headers_are_bounded() -> None:
    line = b"A: " + b"x" * 1000 + b"\r\n"
    with pytest.raises(Unreadable) as caught:
        read_http(b"GET a HTTP/1.1\r\n" + line * (HEAD_BYTES_MAX // len(line) + 1))
    assert caught.value.code == "limit-exceeded"


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_else_is_raised(head: bytes, tail: bytes) -> None:
    for body in (head, b"--b\r\n" + head + b"\r\n--b\r\n" + tail + b"\r\n--b--"):
        try:
            for part in split(body, "b"):
                read_http(part.content)
        except Unreadable:
            continue
