"""Nothing of a request stays when it is answered, nor of a connection when it is closed."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import TYPE_CHECKING, Any

import httptools

from app.server.clock import Clock
from app.server.connection import Connection
from app.server.exchange import Exchange
from tests.unit.server.in_memory import Caller, echo

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from app.web.asgi import App, Receive, Scope, Send

KINDS = (Connection, Exchange, Clock, asyncio.Task, httptools.HttpRequestParser)
GET = b"GET /streamed HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /counted HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
OFFER = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5"
DEATHS = [
    [],
    [b"GET /"],
    [GET],
    [POST],
    [POST, b"hel"],
    [POST, b"hello"],
    [GET * 3],
    [OFFER + b"\r\n\r\nhel"],
    [b"nonsense\r\n\r\n"],
    [POST.replace(b"POST", b"POST\0")],
    [POST.replace(b"counted", b"unread"), b"he"],
    [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\nzz"],
]


def alive() -> Counter[str]:
    return Counter(type(one).__qualname__ for one in gc.get_objects() if isinstance(one, KINDS))


def left_by(conversation: Coroutine[Any, Any, None]) -> tuple[Counter[str], int]:
    """What stays, and how much of it only the collector of cycles found."""

    async def watched() -> tuple[Counter[str], int]:
        for app in (echo, failing):  # what is made once
            await _died([GET], early=False, app=app)
        gc.collect()
        before = alive()
        gc.disable()
        try:
            await conversation
            await asyncio.sleep(0)
            after = alive()
            unreachable = gc.collect()
        finally:
            gc.enable()
        return after - before, unreachable

    return asyncio.run(watched())


async def _died(pieces: list[bytes], *, early: bool, app: App = echo) -> None:
    caller = Caller(app)
    if early:
        for piece in pieces:
            caller.connection.data_received(piece)
    else:
        await caller.send(*pieces)
    await caller.leave()
    caller.transport.protocol = None


async def failing(_scope: Scope, receive: Receive, _send: Send) -> None:
    await receive()
    raise RuntimeError("x")


def test_ten_thousand_requests_leave_nothing() -> None:
    async def many() -> None:
        caller = Caller(echo)
        for _ in range(100):
            await caller.send(*[GET] * 80, *[POST, b"hello"] * 10, GET * 10)
            caller.transport.out.clear()
        assert caller.connection._state.total_requests == 10_000
        await caller.leave()
        caller.transport.protocol = None

    left, unreachable = left_by(many())
    assert left == Counter()
    assert unreachable == 0


def test_a_thousand_connections_leave_nothing() -> None:
    async def many() -> None:
        for turn in range(1000):
            await _died(DEATHS[turn % len(DEATHS)], early=turn % 5 == 0)

    left, unreachable = left_by(many())
    assert left == Counter()
    assert unreachable == 0


def test_faults_leave_nothing() -> None:
    async def many() -> None:
        for _ in range(100):
            caller = await Caller(failing).send(GET * 3)
            await caller.leave()
            caller.transport.protocol = None

    left, unreachable = left_by(many())
    assert left == Counter()
    assert unreachable == 0
