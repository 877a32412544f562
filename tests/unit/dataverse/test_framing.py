"""Our reading of answers beside h11's: where both read, they read the same, and where h11
refuses, so do we. What we refuse beyond h11 is listed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dataverse.framing import (
    HEAD_MAX_BYTES,
    INTERIM_MAX,
    AnswerReader,
    MalformedAnswer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Read:
    """One answer as somebody has read it, and whether the connection is clean after it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    reusable: bool


def ours(chunks: Iterable[bytes], *, method: str = "GET", closed: bool = True) -> Read | None:
    """None for what is refused or not whole."""
    reader = AnswerReader(head_only=method == "HEAD", close_delimited=True)
    body = b""
    try:
        for data in chunks:
            body += reader.feed(data)
    except MalformedAnswer:
        return None
    reusable = reader.complete and reader.reusable
    if closed:
        reader.end()
    if not reader.complete or reader.status is None:
        return None
    return Read(reader.status, reader.headers, body, reusable)


def h11s(chunks: Iterable[bytes], *, method: str = "GET", closed: bool = True) -> Read | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    answer: h11.Response | None = None
    body = b""
    try:
        for data in [*chunks, *([b""] if closed else [])]:
            if data or closed:
                connection.receive_data(data)
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Response):
                    answer = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    assert answer is not None
                    surplus = bool(connection.trailing_data[0])
                    kept = connection.their_state is h11.DONE and not surplus and bool(data)
                    return Read(answer.status_code, tuple(answer.headers), body, kept)
                elif not isinstance(event, h11.InformationalResponse):
                    break
    except h11.RemoteProtocolError:
        return None
    return None


def test_both_readers_agree_on_a_plain_answer() -> None:
    data = [OK + b"Content-Length: 5\r\nX: y\r\n\r\nhello"]
    expected = Read(200, ((b"content-length", b"5"), (b"x", b"y")), b"hello", reusable=True)
    assert ours(data) == h11s(data) == expected


# ------------------------------------------------------------------ accepted

READABLE = {
    "counted": OK + b"Content-Length: 5\r\n\r\nhello",
    "counted zero": OK + b"Content-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "a chunk size in upper case": CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n",
    "chunk extension": CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "leading zeros in a chunk size": CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n",
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n",
    "an empty chunked body": CHUNKED + b"0\r\n\r\n",
    "no reason phrase": b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
    "not even its space": b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "empty value": OK + b"X:\r\nY: \r\nContent-Length: 0\r\n\r\n",
    "white space around a value": OK + b"X: \t y z \t\r\nContent-Length: 0 \r\n\r\n",
    "bytes above ASCII in a value": OK + b"X: gr\xc3\xb6\xdfe\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified, with a length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
    "early hints first": b"HTTP/1.1 103 X\r\nLink: y\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
    "close": OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
    "close among others": OK + b"Connection: keep-alive, close\r\nContent-Length: 2\r\n\r\nhi",
    "until the close": OK + b"X: y\r\n\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a second answer": (OK + b"Content-Length: 2\r\n\r\nhi") * 2,
    "garbage after a counted body": OK + b"Content-Length: 2\r\n\r\nhi!",
    "garbage after the chunks": CHUNKED + b"2\r\nhi\r\n0\r\n\r\nGARBAGE",
    "an answer after the chunks": CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + OK + b"\r\n",
    "a body on no content": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi",
}


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE)
def test_what_both_read_is_read_alike_at_every_cut(data: bytes) -> None:
    expected = h11s([data])
    assert expected is not None
    assert ours([data]) == expected
    for at in range(1, len(data)):
        assert _like(ours([data[:at], data[at:]]), expected)
    assert _like(ours([data[i : i + 1] for i in range(len(data))]), expected)


def _like(read: Read | None, expected: Read) -> bool:
    """The same answer. What comes after it in a piece of its own is met on an idle connection,
    which is closed then, so `reusable` may be true here."""
    assert read is not None
    same = (read.status, read.headers, read.body) == (
        expected.status,
        expected.headers,
        expected.body,
    )
    return same and (read.reusable or not expected.reusable)


def test_the_coding_is_read_in_any_case() -> None:
    read = ours([OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n"])
    assert read is not None
    assert read.body == b"hi"


def test_an_answer_to_head_has_no_body_whatever_its_head_says() -> None:
    for head in (OK + b"Content-Length: 5\r\n\r\n", CHUNKED, OK + b"\r\n"):
        read = ours([head], method="HEAD", closed=False)
        assert read is not None
        assert read.body == b""
        assert read == h11s([head], method="HEAD", closed=False)


# ------------------------------------------------------------------ refused

UNREADABLE = {
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two lengths in one": OK + b"Content-Length: 5, 6\r\n\r\nhello!",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "a hexadecimal length": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "an empty length": OK + b"Content-Length: \r\n\r\nhello",
    "a length beyond reason": OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "a length cut short": OK + b"Content-Length: 6\r\n\r\nhello",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "gzip and chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "no name": OK + b": 5\r\n\r\n",
    "no colon": OK + b"Content-Length\r\n\r\n",
    "NUL in a value": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "CR in a value": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "CR before the length": OK + b"X: a\rContent-Length: 5\r\n\r\nhello",
    "a name with a space": OK + b"X Y: a\r\nContent-Length: 0\r\n\r\n",
    "chunk size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "no chunk size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "chunk size beyond reason": CHUNKED + b"f" * 30 + b"\r\nhello\r\n0\r\n\r\n",
    "chunk without its end": CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
    "chunks cut short": CHUNKED + b"5\r\nhello\r\n",
    "half a chunk": CHUNKED + b"5\r\nhel",
    "two digits of a status": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "HTTP/0.9": b"hello\r\n\r\n",
    "nothing": b"",
    "half a head": OK + b"Content-Le",
}

STRICTER = {
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length beside chunks": OK
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a folded header": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": OK + b"X: a\nContent-Length: 0\r\n\r\n",
    "bare LF everywhere": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "control characters in a value": OK + b"X: a\x01\x7f\r\nContent-Length: 0\r\n\r\n",
    "a folded trailer": CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n",
    "bare LF in a chunk's head": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "chunk extension with LF": CHUNKED + b"5;a=\nb\r\nhello\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a status that nobody defined": b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0 in words": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "lines before the status": b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "interim answers without end": b"HTTP/1.1 100 X\r\n\r\n" * (INTERIM_MAX + 1)
    + OK
    + b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize(
    "data", [*UNREADABLE.values(), *STRICTER.values()], ids=[*UNREADABLE, *STRICTER]
)
def test_what_can_be_read_in_two_ways_is_refused_at_every_cut(data: bytes) -> None:
    assert ours([data]) is None
    assert all(ours([data[:at], data[at:]]) is None for at in range(1, len(data)))
    assert ours([data[i : i + 1] for i in range(len(data))]) is None


@pytest.mark.parametrize("name", UNREADABLE)
def test_h11_refuses_it_too(name: str) -> None:
    assert h11s([UNREADABLE[name]]) is None


def test_a_body_that_ends_with_the_connection_is_refused_unless_asked_for() -> None:
    reader = AnswerReader(head_only=False)
    with pytest.raises(MalformedAnswer, match="where its body ends"):
        reader.feed(OK + b"X: y\r\n\r\nhello")


def test_a_head_of_64_kib_passes_and_a_longer_one_is_refused() -> None:
    def head(size: int) -> bytes:
        start, end = OK + b"Content-Length: 0\r\nX: ", b"\r\n\r\n"
        return start + b"a" * (size - len(start) - len(end)) + end

    for step in (1000, HEAD_MAX_BYTES, 10 * HEAD_MAX_BYTES):
        fits, longer = head(HEAD_MAX_BYTES), head(HEAD_MAX_BYTES + 1)
        assert ours([fits[i : i + step] for i in range(0, len(fits), step)]) is not None
        assert ours([longer[i : i + step] for i in range(0, len(longer), step)]) is None
    assert ours([b"a" * 10]) is None


def test_a_head_without_end_is_refused_before_it_fills_the_memory() -> None:
    reader = AnswerReader(head_only=False)
    reader.feed(OK)
    with pytest.raises(MalformedAnswer, match="the head is longer"):
        _feed_for_ever(reader, b"X: " + b"a" * 1000 + b"\r\n")


@pytest.mark.parametrize("endless", [b"X: aaaaaaaaaaaaaaaa\r\n", b"X-aaaaaaaaaaaaaaaa"])
def test_trailers_without_end_are_refused(endless: bytes) -> None:
    reader = AnswerReader(head_only=False)
    reader.feed(CHUNKED + b"0\r\n")
    with pytest.raises(MalformedAnswer, match="without end"):
        _feed_for_ever(reader, endless)


def _feed_for_ever(reader: AnswerReader, data: bytes) -> None:
    for _ in range(HEAD_MAX_BYTES):
        reader.feed(data)


def test_large_chunks_are_no_overhead() -> None:
    reader = AnswerReader(head_only=False)
    reader.feed(CHUNKED)
    data = (b"186a0\r\n" + b"a" * 100_000 + b"\r\n") * 3
    assert sum(len(reader.feed(data[i : i + 7777])) for i in range(0, len(data), 7777)) == 300_000


# ------------------------------------------------------------------ properties

_FRAGMENTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 X\r\n",
        b"HTTP/1.1 100 X\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: 05\r\n",
        b"content-length:2\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: \tchunked \r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Connection: close\r\n",
        b"X: y\r\n",
        b"X:\r\n",
        b"X : y\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"hello",
        b"5\r\nhello\r\n",
        b"2;x=y\r\nhi\r\n",
        b"0\r\n\r\n",
        b"0\r\n",
        b"00005 \r\nhello\r\n",
    ]
)


@st.composite
def hostile_answers(draw: st.DrawFn) -> bytes:
    start = draw(st.sampled_from([OK, OK, CHUNKED, b""]))
    data = bytearray(start + b"".join(draw(st.lists(_FRAGMENTS, max_size=8))))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@settings(max_examples=500)
@given(data=hostile_answers(), places=st.lists(st.floats(0, 1), max_size=5), closed=st.booleans())
def test_hostile_answers_are_never_read_otherwise_than_by_h11(
    *, data: bytes, places: list[float], closed: bool
) -> None:
    whole = ours([data], closed=closed)
    theirs = h11s([data], closed=closed)
    if whole is not None:
        assert theirs is not None
        assert (whole.status, whole.headers, whole.body) == (
            theirs.status,
            theirs.headers,
            theirs.body,
        )
        assert theirs.reusable or not whole.reusable
    edges = [0, *sorted(int(place * len(data)) for place in places), len(data)]
    parts = ours([data[a:b] for a, b in itertools.pairwise(edges) if a != b], closed=closed)
    assert (whole is None) == (parts is None)
    if whole is not None:
        assert _like(parts, whole)
