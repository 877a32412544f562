"""A real server on loopback, and clients that take their time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from app.server import connection as connections
from app.server.connection import HEAD_BYTES_MAX
from tests.unit.server.on_sockets import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.web.asgi import Receive, Scope, Send

pytestmark = pytest.mark.anyio

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body, after as many seconds as the path says."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await asyncio.sleep(float(scope["path"].strip("/") or 0))
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(echo, grace_s=1) as port:
        yield port


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer_to(streams: Streams, request: bytes) -> bytes:
    """The answer's head and body; all of it fits in what is read."""
    reader, writer = streams
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head + await reader.readexactly(size)


async def test_a_head_of_usual_size_is_answered(port: int) -> None:
    async with connected(port) as streams:
        padding = b"x: " + b"a" * 16_000 + b"\r\n"
        request = b"GET / HTTP/1.1\r\nhost: h\r\n" + padding * 4 + b"\r\n"
        assert (await answer_to(streams, request)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [0xFFFF, 0x10000, HEAD_BYTES_MAX - 100])
async def test_a_target_of_any_length_reaches_the_application(port: int, size: int) -> None:
    async with connected(port) as streams:
        target = b"/?" + b"a" * (size - 2)
        request = b"GET " + target + b" HTTP/1.1\r\nhost: h\r\n\r\n"
        assert (await answer_to(streams, request)).startswith(b"HTTP/1.1 200")


async def test_a_head_without_end_is_refused(port: int) -> None:
    async with connected(port) as (reader, writer):
        # No byte more than it takes: what is not read when the server closes takes its answer back.
        begun = b"GET / HTTP/1.1\r\nhost: h\r\nx: "
        writer.write(begun + b"a" * (HEAD_BYTES_MAX - len(begun)))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"a")
        assert (await reader.read()).startswith(b"HTTP/1.1 431")


async def test_a_large_body_is_no_large_head(port: int) -> None:
    size = 4 * HEAD_BYTES_MAX
    request = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % size
    async with connected(port) as streams:
        for _ in range(2):
            answer = await answer_to(streams, request + b"b" * size)
            assert answer.endswith(str(size).encode())


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nx: y"], ids=["nothing", "a line", "a header"]
)
async def test_a_head_that_does_not_come_closes_the_connection(
    port: int, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    async with connected(port) as (reader, writer):
        writer.write(begun)
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_a_slow_answer_is_no_slow_head(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    async with connected(port) as streams:
        # The beginning of the next request waits behind the first one's answer.
        request = b"GET /0.5 HTTP/1.1\r\nhost: h\r\n\r\nGET / HT"
        assert (await answer_to(streams, request)).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(5):
            assert await streams[0].read() == b""
