from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from app.errors import Unreadable
from app.web.asgi import CallerGone, RequestHead, head_of, new_request_id, read_body

if TYPE_CHECKING:
    from app.web.asgi import Message, Receive

pytestmark = pytest.mark.anyio


def head(*headers: tuple[bytes, bytes], query: bytes = b"") -> RequestHead:
    return RequestHead(
        request_id="id",
        method="POST",
        path=b"/api/data/v9.2/accounts",
        query=query,
        headers=headers,
        peer=None,
    )


CHUNKED = (b"transfer-encoding", b"chunked")


def arriving(*messages: Message) -> Receive:
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.sleep(3600)
        return waiting.pop(0)

    return receive


def piece(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_request_id_is_a_uuid_version_7_and_sorts_by_time() -> None:
    ids = [new_request_id() for _ in range(50)]
    assert {UUID(i).version for i in ids} == {7}
    assert {UUID(i).variant for i in ids} == {"specified in RFC 4122"}
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)
    assert len(set(ids)) == 50


def test_a_head_never_shows_its_headers_or_query() -> None:
    shown = repr(head((b"authorization", b"Bearer hunter2"), query=b"$filter=name eq 'hunter2'"))
    assert "hunter2" not in shown


def test_a_head_is_made_once_for_a_request() -> None:
    scope = {
        "method": "GET",
        "raw_path": b"/%61",
        "query_string": b"a=%62",
        "headers": [(b"host", b"x")],
        "client": ("10.0.0.1", 5),
        "scheme": "http",
    }
    first = head_of(scope)
    assert (first.path, first.target, first.peer) == (b"/%61", b"/%61?a=%62", "10.0.0.1")
    assert head_of(scope) is first


def test_a_single_header_is_given_out() -> None:
    assert head((b"if-match", b"*")).single(b"if-match") == b"*"
    assert head().single(b"if-match") is None


def test_a_single_header_given_twice_is_unreadable_even_with_one_value() -> None:
    with pytest.raises(Unreadable) as caught:
        head((b"if-match", b"*"), (b"if-match", b"*")).single(b"if-match")
    assert caught.value.code == "duplicate-header"


async def test_a_body_is_joined_from_its_pieces() -> None:
    receive = arriving(piece(b"ab", more=True), piece(b"c"))
    assert await read_body(head(CHUNKED), receive, limit=3, within_s=1) == b"abc"


@pytest.mark.parametrize("headers", [(), ((b"content-length", b"0"),)])
async def test_a_body_that_nobody_announced_is_not_waited_for(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    assert await read_body(head(*headers), arriving(), limit=3, within_s=0.05) == b""


@pytest.mark.parametrize(
    ("headers", "messages", "code"),
    [
        pytest.param(((b"content-length", b"4"),), (), "body-too-large", id="declared"),
        pytest.param(
            (CHUNKED,), (piece(b"ab", more=True), piece(b"cd")), "body-too-large", id="arriving"
        ),
        pytest.param((CHUNKED,), (piece(b"ab", more=True),), "body-too-slow", id="slow"),
        pytest.param(((b"content-length", b"+3"),), (), "bad-header", id="no number"),
        pytest.param(
            ((b"content-length", b"1"), (b"content-length", b"2")),
            (),
            "duplicate-header",
            id="twice",
        ),
    ],
)
async def test_a_body_is_refused(
    headers: tuple[tuple[bytes, bytes], ...], messages: tuple[Message, ...], code: str
) -> None:
    with pytest.raises(Unreadable) as caught:
        await read_body(head(*headers), arriving(*messages), limit=3, within_s=0.05)
    assert caught.value.code == code


async def test_a_body_ends_with_its_caller() -> None:
    with pytest.raises(CallerGone):
        await read_body(head(CHUNKED), arriving({"type": "http.disconnect"}), limit=3, within_s=1)
