"""However a request is cut, it is the same one; and what could be two is none."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.server.connection import HEAD_BYTES_MAX, PIPELINE_MAX, Connection
from tests.unit.server.in_memory import Caller, Heard, echo, heard

pytestmark = pytest.mark.anyio

NEXT = b"GET /counted?next HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"POST /counted HTTP/1.1\r\nHost: h\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    method: bytes
    data: bytes
    last: bool


@st.composite
def asked(draw: st.DrawFn, *, kind: str = "ours") -> Asked:
    """`kind` is `uvicorn` where only what it does as well is drawn."""
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PATCH", b"DELETE"]))
    path = draw(st.sampled_from([b"/counted", b"/streamed", b"/unread", b"/empty"]))
    target = draw(st.sampled_from([b"", b"http://elsewhere:80"])) + path
    target += draw(st.sampled_from([b"", b"?a=b&c=%20", b"?"]))
    version = b"1.1" if kind == "uvicorn" else draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    lines = [b"%s %s HTTP/%s" % (method, target, version), b"hOst: h"]
    body = draw(st.none() | st.binary(max_size=40))
    framed = b""
    if body is not None and draw(st.booleans()):
        lines.append(b"Content-Length: %d" % len(body))
        framed = body
    elif body is not None:
        lines.append(b"transfer-encoding: Chunked")
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(body) - 1)), max_size=3)))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        framed = b"".join(b"%X;x=y\r\n%s\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n"
        if kind != "uvicorn":
            framed += draw(st.sampled_from([b"", b"Trailer: t\r\nExpect: 100-continue\r\n"]))
        framed += b"\r\n"
    last = version == b"1.0"
    extra = draw(st.sampled_from(["", "", "", "expect", "close", "offer"]))
    if extra == "expect" and path != b"/unread":
        lines.append(b"Expect: 100-continue")
    elif extra == "close":
        lines.append(b"Connection: close")
        last = True
    elif extra == "offer" and kind != "uvicorn":
        lines += [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A"]
    return Asked(method, b"\r\n".join(lines) + b"\r\n\r\n" + framed, last)


def cut(data: bytes, at: set[int]) -> list[bytes]:
    cuts = sorted(a for a in at if 0 < a < len(data))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def said(pieces: list[bytes], server: Any = Connection) -> tuple[bytes, bool]:
    async def conversation() -> tuple[bytes, bool]:
        caller = await Caller(echo, server).send(*pieces)
        said = caller.out, caller.ended
        await caller.leave()
        return said

    return asyncio.run(conversation())


@settings(deadline=None, max_examples=300)
@given(st.lists(asked(), min_size=1, max_size=5), st.sets(st.integers(1, 1500), max_size=40))
def test_requests_are_the_same_however_they_are_cut(requests: list[Asked], at: set[int]) -> None:
    data = b"".join(one.data for one in requests)
    whole = said([data])
    assert said(cut(data, at)) == whole
    assert said([data[i : i + 1] for i in range(len(data))]) == whole
    answers = heard(whole[0], [one.method for one in requests], ended=whole[1])
    meant = next((i + 1 for i, one in enumerate(requests) if one.last), len(requests))
    assert len(answers) == meant
    assert whole[1] == (meant < len(requests) or requests[-1].last)


@settings(deadline=None, max_examples=300)
@given(st.lists(asked(kind="uvicorn"), min_size=1, max_size=5))
def test_answers_are_those_of_uvicorns_own_server(requests: list[Asked]) -> None:
    """But for what it does wrong: it sends chunks to HTTP/1.0, makes headers of trailers, and
    forgets what follows an offer of another protocol. It also refuses less."""
    methods = [one.method for one in requests]
    pieces = [one.data for one in requests]
    ours, theirs = said(pieces), said(pieces, HttpToolsProtocol)
    answers, others = (heard(out, methods, ended=ended) for out, ended in (ours, theirs))
    assert answers == others
    assert [a.headers for a in answers] == [o.headers for o in others]
    assert ours[1] == theirs[1]


def _h11_refuses(data: bytes) -> bool:
    """Some of it, or what it does not end."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    try:
        while (event := server.next_event()) is not h11.NEED_DATA:
            if event is h11.PAUSED:
                return False
    except h11.RemoteProtocolError:
        return True
    return False


REFUSED = {
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a sign": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "an empty length": HEAD + b"Content-Length: \r\n\r\nhello",
    "a hexadecimal length": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "a length beyond numbers": HEAD + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity, then chunked": HEAD
    + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "almost chunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked after a vertical tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "an empty coding": HEAD + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"GET /counted HTTP/1.1\nHost: h\n\n",
    "a bare line feed": b"GET /counted HTTP/1.1\r\nHost: h\n\r\n",
    "a bare carriage return": b"GET /counted HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
    "a bare carriage return at the end": b"GET /counted HTTP/1.1\r\nHost: h\r\n\rX",
    "a folded line": b"GET /counted HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    "a first line that is folded": b"GET /counted HTTP/1.1\r\n Host: h\r\n\r\n",
    "a NUL": b"GET /counted HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "a space before the colon": b"GET /counted HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n",
    "no name": b"GET /counted HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n",
    "no colon": b"GET /counted HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
    "a name beyond ASCII": b"GET /counted HTTP/1.1\r\nHost: h\r\nX\xe9: a\r\n\r\n",
    "a name with a NUL": b"GET /counted HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n",
    "no host": b"GET /counted HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /counted HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
    "two hosts in HTTP/1.0": b"GET /counted HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n",
    "no version": b"GET /counted\r\n\r\n",
    "HTTP/0.9": b"GET /counted HTTP/0.9\r\nHost: h\r\n\r\n",
    "HTTP/2.0": b"GET /counted HTTP/2.0\r\nHost: h\r\n\r\n",
    "HTTP/1.2": b"GET /counted HTTP/1.2\r\nHost: h\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a space in the target": b"GET /counted x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a chunk size without end": CHUNKED + b"fffffffffffffffff\r\nhello",
    "a chunk size with a prefix": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a space": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "a chunk without a size": CHUNKED + b";a=b\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer": CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
    "a line feed after the size": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "a line feed after a chunk": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "a line feed in an extension": CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a length in the trailer": CHUNKED + b"0\r\nContent-Length: 5\r\n\r\nhello",
    "a coding in the trailer": CHUNKED + b"0\r\nTransfer-Encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
async def test_what_is_no_request_is_the_last(data: bytes, *, bytewise: bool) -> None:
    pieces = [bytes([byte]) for byte in data] if bytewise else [data]
    caller = await Caller(echo).send(NEXT, *pieces, NEXT, NEXT)
    answers = heard(caller.out, [b"GET", b"POST"], ended=True)
    assert [a.status for a in answers] == [200, 400]
    assert answers[1].headers[b"broker-decision"] == b"refused"
    assert caller.ended
    await caller.leave()


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 5 \r\n\r\nhello",
        HEAD + b"Content-Length: 005\r\n\r\nhello",
        HEAD + b"Transfer-Encoding: chunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"0005;a=b;c\r\nhello\r\n00\r\nTrailer: x\r\n\r\n",
        b"\r\n\r\n" + HEAD + b"Content-Length: 5\r\nX:\r\nY: \xff\r\n\r\nhello",
        HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
        HEAD
        + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"5\r\nhello\r\n0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_what_is_only_unusual_is_answered_and_so_is_the_next(data: bytes) -> None:
    for pieces in ([data + NEXT], [bytes([byte]) for byte in data + NEXT]):
        caller = await Caller(echo).send(*pieces)
        assert heard(caller.out, [b"POST", b"GET"], ended=False) == [
            Heard(200, b"POST /counted? hello"),
            Heard(200, b"GET /counted?next "),
        ]
        assert not caller.ended
        await caller.leave()


@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"])
async def test_no_request_hides_behind_an_offer(offer: bytes) -> None:
    hidden = b"DELETE /counted?hidden HTTP/1.1\r\nHost: h\r\n\r\n"
    request = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(hidden)
    caller = await Caller(echo).send(request + hidden, NEXT)
    answers = heard(caller.out, [b"POST", b"GET"], ended=False)
    assert [a.body for a in answers] == [b"POST /counted? " + hidden, b"GET /counted?next "]
    await caller.leave()


async def test_nothing_follows_a_connect() -> None:
    request = b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: %d\r\n\r\n" % len(NEXT)
    caller = await Caller(echo).send(request + NEXT, NEXT)
    [answer] = heard(caller.out, [b"POST"], ended=True)
    assert answer.headers[b"connection"] == b"close"
    assert caller.ended
    await caller.leave()


async def test_a_trailer_is_no_header_of_the_next_request() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        seen.append(scope["headers"])

    smuggled = CHUNKED + b"0\r\nAuthorization: Bearer his\r\nHost: other\r\n\r\n"
    caller = await Caller(app).send(smuggled + NEXT, smuggled, NEXT)
    first = [(b"host", b"h"), (b"transfer-encoding", b"chunked")]
    assert seen == [first, [(b"host", b"h")]] * 2
    await caller.leave()


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /counted HTTP/1.1\r\nHost: h\r\nX: ",
        b"GET /",
        CHUNKED + b"5;",
        CHUNKED + b"0\r\nTrailer: ",
        CHUNKED + b"5\r\nhello\r\n0\r\nTrailer: x\r\nMore: ",
    ],
    ids=["header", "target", "extension", "trailer", "trailers"],
)
async def test_what_only_grows_is_refused(begun: bytes) -> None:
    caller = await Caller(echo).send(begun, *[b"a" * 4096] * (HEAD_BYTES_MAX // 4096), b"a")
    assert [a.status for a in heard(caller.out, [b"GET"], ended=True)] == [431]
    assert caller.ended
    await caller.leave()
    within = await Caller(echo).send(begun, *[b"a" * 4096] * (HEAD_BYTES_MAX // 4096 - 1))
    assert within.out == b""
    assert not within.ended
    await within.leave()


async def test_a_body_in_small_chunks_may_be_large() -> None:
    many = b"1\r\nx\r\n" * 1000
    caller = await Caller(echo).send(CHUNKED, *[many] * 40, b"0\r\n\r\n", NEXT)
    answers = heard(caller.out, [b"POST", b"GET"], ended=False)
    assert [len(a.body) for a in answers] == [40_015, 18]
    await caller.leave()


async def test_one_who_sends_faster_than_he_is_answered_waits() -> None:
    asked = 3 * PIPELINE_MAX
    caller = await Caller(echo).send(*[NEXT] * asked)
    assert len(heard(caller.out, [b"GET"] * asked, ended=False)) == asked
    assert not caller.ended
    await caller.leave()


async def test_more_than_may_wait_at_once_are_not_begun() -> None:
    caller = await Caller(echo).send(NEXT * (PIPELINE_MAX + 10))
    answers = heard(caller.out, [b"GET"] * (PIPELINE_MAX + 10), ended=True)
    assert len(answers) == PIPELINE_MAX + 1
    assert answers[-1].headers[b"connection"] == b"close"
    # In order: what was not read yet must not take the answers back.
    assert caller.transport.half_closed
    assert not caller.transport.closing
    await caller.leave()


@settings(deadline=None, max_examples=500)
@given(
    name=st.sampled_from(sorted(REFUSED)),
    noise=st.binary(max_size=3)
    | st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b":", b"\0", b"\t"]),
    where=st.integers(0, 200),
    refused=st.booleans(),
    drop=st.integers(0, 3),
)
def test_nothing_gives_more_answers_than_h11_reads_requests(
    *, name: str, noise: bytes, where: int, refused: bool, drop: int
) -> None:
    base = REFUSED[name] if refused else CHUNKED + b"5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n"
    data = base[:where] + noise + base[where + drop :]
    out, ended = said([data])
    assert said([bytes([byte]) for byte in data])[0] == out
    statuses = [int(line[9:12]) for line in out.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert 400 not in statuses[:-1]
    assert ended or 400 not in statuses
    if ended and statuses[-1:] == [400]:
        return
    # What was answered otherwise is a request for h11 too, apart from ends of lines before it
    # and from spaces around its target, which mean nothing.
    line, _, rest = data.lstrip(b"\r\n").partition(b"\n")
    plain = re.sub(rb" +", b" ", line) + b"\n" + rest
    assert statuses == [] or not _h11_refuses(plain), (data, out)
