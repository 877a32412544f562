"""The quick reader of heads says what llhttp says, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse import framing
from app.dataverse.framing import AnswerReader, MalformedAnswer
from app.dataverse.heads import plain_head

if TYPE_CHECKING:
    from collections.abc import Sequence

USUAL = (
    b"HTTP/1.1 200 OK",
    b"Cache-Control: no-cache",
    b"Content-Type: application/json; odata.metadata=minimal",
    b"Content-Length: 5",
    b'ETag: W/"1234"',
    b"OData-Version: 4.0",
    b"x-ms-ratelimit-time-remaining-xrm-requests: 1,199.97",
    b"REQ_ID:8b1f7a52-5c2e-4d10-9d86-d081884c7d65  ",
    b"Set-Cookie: a=b; path=/",
)


def head_of(lines: Sequence[bytes]) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"


def read(head: bytes, *, quickly: bool) -> Any:
    """Everything that the head decides."""
    with pytest.MonkeyPatch.context() as patched:
        if not quickly:
            patched.setattr(framing, "plain_head", lambda _: None)
        reader = AnswerReader(head_only=False)
        try:
            body = reader.feed(head + b"hello")
        except MalformedAnswer:
            return "malformed"
        return (
            reader.status,
            reader.headers,
            reader.body_bytes,
            reader.complete,
            reader.reusable,
            body,
        )


def test_a_known_name_without_a_colon_is_left_to_llhttp() -> None:
    assert plain_head(head_of(USUAL)) is not None
    assert plain_head(head_of((*USUAL, b"ETag"))) is None


def test_a_usual_head_is_read_quickly() -> None:
    found = plain_head(head_of(USUAL))
    assert found is not None
    status, headers = found
    assert status == 200
    assert dict(headers)[b"req_id"] == b"8b1f7a52-5c2e-4d10-9d86-d081884c7d65"
    assert read(head_of(USUAL), quickly=True) == read(head_of(USUAL), quickly=False)


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5",  # a second one
        b"Content-Length: +5",
        b" folded",
        b"no colon",
        b"Name : value",
        b": value",
        b"X: a\x00b",
        b"X: a\rb",
        b"X: a\nb",
        b"X: a\tb",
        b"Upgrade: h2c",
        "Ä: x".encode("latin-1"),
    ],
)
def test_what_is_unusual_is_left_to_llhttp(line: bytes) -> None:
    head = head_of((*USUAL, line))
    assert plain_head(head) is None
    assert read(head, quickly=True) == read(head, quickly=False)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 101 Switching Protocols",
        b"HTTP/1.1 99 X",
        b"HTTP/1.1 2000 X",
        b"HTTP/1.1  200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/1.1 20\xb2 OK",
        b"ICY 200 OK",
    ],
)
def test_an_unusual_status_line_is_left_to_llhttp(line: bytes) -> None:
    assert plain_head(head_of((line, *USUAL[1:]))) is None


pieces = st.sampled_from(
    [
        *USUAL,
        *(b"\r\n", b"\n", b"\r", b":", b" ", b"\t", b"\0", b"\x7f", b"\x80", b"0", b"5", b","),
        *(b"Content-Length", b"Transfer-Encoding: chunked", b"Connection: close", b"Trailer: x"),
        *(b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 ", b"HTTP/1.1 500", b"HTTP/1.0 200 OK"),
        *(b"Keep-Alive: timeout=5", b"Connection: keep-alive", b"Connection: Upgrade"),
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A usual head with something put in, left out or doubled."""
    lines = list(USUAL)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["drop", "double", "swap", "put in", "cut in"]))
        if kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "swap":
            lines[at] = draw(pieces)
        elif kind == "put in":
            lines.insert(at, draw(pieces))
        else:
            cut = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:cut] + draw(pieces) + lines[at][cut:]
    return head_of(lines)


@given(heads())
def test_both_readers_agree(head: bytes) -> None:
    assert read(head, quickly=True) == read(head, quickly=False)
