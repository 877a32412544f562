"""What the sandbox's servers let an application do to HTTP, seen on a bare socket."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from app.sandbox.exchange import WRITE, Answer, ConnectionCut, cut, respond, write_raw
from app.sandbox.servers import listen, serving

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

    from app.sandbox.exchange import Application, Receive, Scope, Send

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: sandbox\r\n\r\n"


async def received(application: Application) -> bytes:
    """All that one request brings, until the connection ends. Raises what its end raises."""
    with listen() as listener:
        async with serving((application, listener), context=None):
            port = listener.getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(REQUEST)
                return await asyncio.wait_for(reader.read(), timeout=10)
            finally:
                writer.close()


async def test_a_cut_connection_is_reset_before_any_answer() -> None:
    async def application(scope: Scope, receive: Receive, _send: Send) -> None:
        await cut(scope, receive)

    with pytest.raises(ConnectionResetError):
        await received(application)


async def test_a_cut_in_mid_answer_leaves_what_was_sent() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await cut(scope, receive)

    answer = await received(application)
    assert b"content-length: 10\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhalf")


async def test_an_answer_may_be_longer_than_it_promised() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        write_raw(scope, b"four and more")
        await cut(scope, receive)

    answer = await received(application)
    assert b"content-length: 4\r\n" in answer
    assert answer.endswith(b"\r\n\r\nfour and more")


async def test_an_orderly_answer_follows_http() -> None:
    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, Answer(body=b"{}", headers=(("Connection", "close"),)))

    answer = await received(application)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"content-length: 2\r\nconnection: close\r\n\r\n{}")


async def test_an_answer_does_not_wait_for_the_peers_acknowledgement() -> None:
    """Nagle's algorithm would hold back the second write of each answer for 40 ms."""
    seen: list[int] = []

    async def application(scope: Scope, _receive: Receive, send: Send) -> None:
        connection = scope["extensions"][WRITE].__self__.get_extra_info("socket")
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await respond(send, Answer(headers=(("Connection", "close"),)))

    await received(application)
    assert seen == [1]


async def test_another_server_has_no_such_means() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ConnectionCut):
        await cut({"type": "http"}, receive)
    with pytest.raises(ConnectionCut):
        write_raw({"type": "http"}, b"")


async def test_stopping_waits_for_what_runs_and_tells_what_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(0.2 if not ended else 60)
        except asyncio.CancelledError:
            ended.append("told")
            raise
        ended.append("answered")
        await respond(send, Answer(body=b"{}"))

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        try:
            return await reader.read()
        finally:
            writer.close()

    for outcome in ("answered", "told"):
        with listen() as listener:
            async with serving((application, listener), context=None):
                asking = asyncio.create_task(ask(listener.getsockname()[1]))
                await asyncio.sleep(0.1)
        if outcome == "answered":
            assert (await asking).startswith(b"HTTP/1.1 200 OK")
        else:
            assert await asyncio.wait_for(asking, timeout=1) == b""
        assert ended[-1] == outcome
    assert not [r for r in caplog.records if r.name.startswith("uvicorn")]
