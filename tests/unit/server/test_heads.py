"""How the head of an answer is written."""

from __future__ import annotations

import pytest

from app.server.heads import Pair, written


def head_of(*headers: Pair) -> bytes:
    head = written(200, headers, always=b"", bodiless=False, chunks=True, closes=False)
    return head.data


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (b"odata-entityid", b"OData-EntityId: v\r\n"),
        (b"retry-after", b"Retry-After: v\r\n"),
        (b"etag", b"ETag: v\r\n"),
        (b"x-ms-service-request-id", b"x-ms-service-request-id: v\r\n"),
        (b"X-Own", b"X-Own: v\r\n"),
    ],
)
def test_names_are_written_as_their_definitions_write_them(name: bytes, line: bytes) -> None:
    for _ in range(2):
        assert line in head_of((name, b"v"), (b"content-length", b"0"))


def test_a_length_is_known_whatever_its_spelling() -> None:
    head = written(
        200, [(b"Content-Length", b"3")], always=b"", bodiless=False, chunks=True, closes=False
    )
    assert head.length == 3
    assert not head.chunked
    assert head.data.count(b"Content-Length: 3\r\n") == 1
