from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from app.dataverse import connection as connection_module
from app.dataverse.answer import READ_BYTES, UNREAD_HIGH_BYTES, WHOLE_BYTES
from app.dataverse.client import Origin, UpstreamClient, tls_context
from app.dataverse.connection import Patience
from app.dataverse.failures import ExchangeFailed, Stage, UpstreamBusy
from app.dataverse.message import Upstream, UpstreamRequest
from app.dataverse.proxies import HttpProxy
from app.dataverse.wire import UnsendableHead
from tests.unit.dataverse.servers import Handler, raw_server, read_head, read_request, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from app.dataverse.answer import Answer
    from app.dataverse.message import Headers

pytestmark = pytest.mark.anyio

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
ACCEPT: Headers = ((b"Accept", b"application/json"),)
GET = UpstreamRequest("GET", b"/api/data/v9.2/accounts", ACCEPT)


@contextlib.asynccontextmanager
async def client_of(
    handler: Handler, *, patience: Patience | None = None, connections: int = 10, waiting: int = 10
) -> AsyncIterator[UpstreamClient]:
    async with raw_server(handler) as server:
        client = UpstreamClient(
            server.url, patience=patience, connections=connections, waiting=waiting
        )
        try:
            yield client
        finally:
            await client.aclose()


async def body_of(answer: Answer) -> bytes:
    body = b"".join([chunk async for chunk in answer.chunks()])
    await answer.aclose()
    return body


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0)
        yield part


def the_client_is_an_upstream(client: UpstreamClient) -> Upstream:
    return client


# ------------------------------------------------------------------ requests


async def test_a_request_arrives_as_it_was_meant() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(NO_CONTENT)

    async with client_of(handler) as client:
        for request in (
            GET,
            UpstreamRequest("DELETE", b"/x", ()),
            UpstreamRequest("POST", b"/x", ACCEPT, b'{"name":"Contoso"}'),
            UpstreamRequest("POST", b"/x", (), b""),
            UpstreamRequest("PATCH", b"/x", ()),
            UpstreamRequest("PATCH", b"/x", (), pieces(b"ab", b"", b"cd"), 4),
            UpstreamRequest("PATCH", b"/x", (), pieces(b"ab", b"", b"cd")),
            UpstreamRequest("PUT", b"/x", (), b"z" * 1_000_000),
        ):
            answer = await client.send(request, timeout_s=5)
            assert (answer.status, await body_of(answer)) == (204, b"")
        host = b"Host: " + client._host_header + b"\r\n"
    accept = b"Accept: application/json\r\n"
    assert seen == [
        (b"GET /api/data/v9.2/accounts HTTP/1.1\r\n" + host + accept + b"\r\n", b""),
        (b"DELETE /x HTTP/1.1\r\n" + host + b"\r\n", b""),
        (
            b"POST /x HTTP/1.1\r\n" + host + accept + b"Content-Length: 18\r\n\r\n",
            b'{"name":"Contoso"}',
        ),
        (b"POST /x HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n\r\n", b""),
        (b"PATCH /x HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n\r\n", b""),
        (b"PATCH /x HTTP/1.1\r\n" + host + b"Content-Length: 4\r\n\r\n", b"abcd"),
        (b"PATCH /x HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n", b"abcd"),
        (b"PUT /x HTTP/1.1\r\n" + host + b"Content-Length: 1000000\r\n\r\n", b"z" * 1_000_000),
    ]


async def test_a_small_request_leaves_in_one_piece() -> None:
    first: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.read(10_000))
        writer.write(NO_CONTENT)

    async with client_of(handler) as client:
        await client.send(UpstreamRequest("POST", b"/x", ACCEPT, b"{}"), timeout_s=5)
    assert first[0].endswith(b"\r\n\r\n{}")


async def test_a_header_with_a_line_break_is_never_sent() -> None:
    async with client_of(says(HELLO)) as client:
        bad = UpstreamRequest("GET", b"/x", ((b"X", b"a\r\nHost: b"),))
        with pytest.raises(UnsendableHead):
            await client.send(bad, timeout_s=5)
        assert client.pool.open_connections == 0
        assert (await client.send(GET, timeout_s=5)).status == 200


@pytest.mark.parametrize("parts", [(b"abc",), (b"abc", b"de"), ()], ids=["less", "more", "none"])
async def test_a_body_of_another_length_than_announced_closes_the_connection(
    parts: tuple[bytes, ...],
) -> None:
    async with client_of(says(HELLO, HELLO)) as client:
        with pytest.raises(UnsendableHead, match="not as long"):
            await client.send(UpstreamRequest("PUT", b"/x", (), pieces(*parts), 4), timeout_s=5)
        assert client.pool.open_connections == 0
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"


async def test_an_upload_that_its_sender_breaks_off_closes_the_connection() -> None:
    class Gone(Exception):
        pass

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"half"
        raise Gone

    async with client_of(says(HELLO, HELLO)) as client:
        with pytest.raises(Gone):
            await client.send(UpstreamRequest("PUT", b"/x", (), breaks_off(), 8), timeout_s=5)
        assert client.pool.open_connections == 0


async def test_an_upload_that_is_refused_early_is_stopped() -> None:
    refusal = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 7\r\n\r\ntoo big"
    given: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            given.append(1)
            yield b"x" * 65536

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(100_000)
        writer.write(refusal)
        await writer.drain()
        await asyncio.sleep(5)

    async with client_of(handler) as client:
        answer = await client.send(UpstreamRequest("PUT", b"/x", (), endless()), timeout_s=5)
        assert (answer.status, await body_of(answer)) == (413, b"too big")
        assert client.pool.open_connections == 0
        stopped_at = len(given)
        await asyncio.sleep(0.05)
        assert len(given) == stopped_at


async def test_a_success_before_the_whole_upload_is_no_success() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(NO_CONTENT)
        await asyncio.sleep(5)

    async with client_of(handler) as client:
        with pytest.raises(ExchangeFailed, match="before it had the whole request") as caught:
            await client.send(UpstreamRequest("PUT", b"/x", (), endless()), timeout_s=5)
        assert (caught.value.code, caught.value.sent) == ("upstream-malformed", True)


@pytest.mark.parametrize("parts", [(), (b"abc",), (b"a" * 70_000, b"b" * 70_000)])
async def test_an_answer_to_all_that_was_announced_is_not_early(parts: tuple[bytes, ...]) -> None:
    """Though the reader of the body has not been told yet that this was its end."""
    answered = asyncio.Event()

    async def slow_to_end() -> AsyncIterator[bytes]:
        for part in parts:
            yield part
        await answered.wait()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO)
        await writer.drain()
        await asyncio.sleep(0.02)
        answered.set()
        await read_request(reader)
        writer.write(NO_CONTENT)

    length = sum(map(len, parts))
    upload = UpstreamRequest("PATCH", b"/x", (), body=slow_to_end(), content_length=length)
    async with client_of(handler) as client:
        answer = await client.send(upload, timeout_s=5)
        assert await body_of(answer) == b"hello"
        assert (await client.send(GET, timeout_s=5)).status == 204
        assert client.pool.open_connections == 1


async def test_a_large_body_waits_for_a_slow_server() -> None:
    taken = asyncio.Event()
    given = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(400):
            given += 65536
            yield b"x" * 65536

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await taken.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        await read_request(reader)
        writer.write(NO_CONTENT)

    async with client_of(handler) as client:
        request = UpstreamRequest("PUT", b"/x", (), body(), 400 * 65536)
        sending = asyncio.ensure_future(client.send(request, timeout_s=5))
        await asyncio.sleep(0.3)
        # What the kernel takes, and 128 KiB of ours.
        assert given < 20_000_000
        taken.set()
        assert (await sending).status == 204
        assert given == 400 * 65536


# ------------------------------------------------------------------ answers


async def test_a_connection_carries_one_exchange_after_another() -> None:
    async with raw_server(says(*[HELLO] * 10)) as server:
        client = UpstreamClient(server.url)
        for _ in range(10):
            assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        assert (server.connections, client.pool.idle_connections) == (1, 1)
        await client.aclose()


async def test_an_answer_in_the_smallest_pieces_is_whole() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for i in range(len(HELLO)):
            writer.write(HELLO[i : i + 1])
            await writer.drain()
            await asyncio.sleep(0)

    async with client_of(handler) as client:
        answer = await client.send(GET, timeout_s=5)
        assert answer.headers == ((b"content-length", b"5"),)
        assert await body_of(answer) == b"hello"


async def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            writer.write(
                b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\n"
                b"Set-Cookie: ARRAffinity=1\r\nContent-Length: 0\r\n\r\n"
            )

    async with client_of(handler) as client:
        for _ in range(2):
            answer = await client.send(GET, timeout_s=5)
            assert (answer.status, await body_of(answer)) == (302, b"")
    assert len(heads) == 2
    assert all(b"ookie" not in head for head in heads)


async def test_content_codings_are_not_undone() -> None:
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"
    async with client_of(says(packed)) as client:
        assert await body_of(await client.send(GET, timeout_s=5)) == b"\x1f\x8b\x08"


async def test_a_head_request_has_no_body() -> None:
    async with client_of(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HELLO)) as client:
        head = await client.send(UpstreamRequest("HEAD", b"/x", ()), timeout_s=5)
        assert await body_of(head) == b""
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"


async def test_interim_answers_are_skipped() -> None:
    async with client_of(says(b"HTTP/1.1 103 X\r\nLink: y\r\n\r\n" + HELLO)) as client:
        answer = await client.send(GET, timeout_s=5)
        assert (answer.status, await body_of(answer)) == (200, b"hello")


async def test_what_comes_after_an_answer_is_nobodys_answer() -> None:
    async with raw_server(says(HELLO + HELLO.replace(b"hello", b"other"), HELLO)) as server:
        client = UpstreamClient(server.url)
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        assert client.pool.open_connections == 0
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        assert server.connections == 2
        await client.aclose()


async def test_what_comes_unasked_on_an_idle_connection_closes_it() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(HELLO.replace(b"hello", b"other"))
        await asyncio.sleep(1)

    async with client_of(handler) as client:
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        assert client.pool.idle_connections == 1
        await asyncio.sleep(0.15)
        assert client.pool.open_connections == 0


async def test_a_large_answer_waits_for_a_slow_reader() -> None:
    size = 30_000_000
    written = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(b"x" * 100_000)
            written += 100_000
            await writer.drain()

    async with client_of(handler) as client:
        answer = await client.send(GET, timeout_s=5)
        await asyncio.sleep(0.3)
        assert 0 < answer._unread_bytes <= UNREAD_HIGH_BYTES + READ_BYTES
        assert written < size
        total = most = 0
        async for chunk in answer.chunks():
            total += len(chunk)
            most = max(most, answer._unread_bytes + len(chunk))
        assert total == size
        assert most <= 256 * 1024
        assert client.pool.idle_connections == 1


def in_pieces(head: bytes, body: bytes, *, pause_after: int) -> Handler:
    """The body's end comes later than its beginning."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (head, body[:pause_after]))
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(body[pause_after:])
            await writer.drain()

    return handler


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


_CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("head", "body", "is_whole"),
    [
        pytest.param(b"Content-Length: 0", b"", True, id="nothing"),
        pytest.param(b"Content-Length: 9", b"123456789", True, id="short"),
        pytest.param(b"Content-Length: %d" % WHOLE_BYTES, b"x" * WHOLE_BYTES, True, id="just"),
        pytest.param(
            b"Content-Length: %d" % (WHOLE_BYTES + 1), b"x" * (WHOLE_BYTES + 1), False, id="above"
        ),
        pytest.param(_CHUNKED, b"x" * UNREAD_HIGH_BYTES, True, id="chunks"),
        pytest.param(_CHUNKED, b"x" * 4 * WHOLE_BYTES, False, id="many chunks"),
    ],
)
async def test_a_body_is_whole_where_it_says_to_be_short_or_proves_so(
    head: bytes, body: bytes, *, is_whole: bool
) -> None:
    framed = chunked(body) if head == _CHUNKED else body
    async with client_of(in_pieces(head, framed, pause_after=len(framed) - 5)) as client:
        for _ in range(2):
            answer = await client.send(GET, timeout_s=5)
            whole = await answer.whole()
            assert (whole is not None) == is_whole
            assert whole == body if is_whole else await body_of(answer) == body
            await answer.aclose()
        assert client.pool.open_connections == 1


async def test_a_long_body_is_not_waited_for() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (WHOLE_BYTES + 1))
        await reader.read()

    async with client_of(handler) as client:
        answer = await client.send(GET, timeout_s=5)
        async with asyncio.timeout(1):
            assert await answer.whole() is None
        await answer.aclose()


@pytest.mark.parametrize("length", [10, WHOLE_BYTES])
async def test_a_body_that_breaks_off_is_never_whole(length: int) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        writer.write(b"x" * (length - 1))
        await writer.drain()

    async with client_of(handler) as client:
        answer = await client.send(GET, timeout_s=5)
        with pytest.raises(ExchangeFailed, match="in the middle of its answer"):
            await answer.whole()
        await answer.aclose()


async def test_an_answer_closed_early_cuts_its_connection() -> None:
    cut = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")
        await reader.read()
        cut.set()

    async with client_of(handler) as client:
        answer = await client.send(GET, timeout_s=5)
        await answer.aclose()
        assert client.pool.open_connections == 0
        await asyncio.wait_for(cut.wait(), 2)
        with pytest.raises(ExchangeFailed):
            await body_of(answer)


async def test_an_answer_closed_after_its_end_leaves_the_connection_alone() -> None:
    async with client_of(says(HELLO, HELLO), connections=1) as client:
        first = await client.send(GET, timeout_s=5)
        second = await client.send(GET, timeout_s=5)
        await first.aclose()
        assert await body_of(second) == b"hello"


# ------------------------------------------------------------------ time


def silent() -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(5)
        writer.close()

    return handler


async def test_a_cancelled_request_is_cut_off() -> None:
    async with client_of(silent()) as client:
        sending = asyncio.ensure_future(client.send(GET, timeout_s=5))
        await asyncio.sleep(0.05)
        assert client.pool.open_connections == 1
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert client.pool.open_connections == 0


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    patience = Patience(keepalive_s=0.1)
    async with client_of(says(HELLO, HELLO), patience=patience) as client:
        await client.send(GET, timeout_s=5)
        assert client.pool.idle_connections == 1
        await asyncio.sleep(0.25)
        assert client.pool.open_connections == 0


async def test_an_old_connection_is_not_used_again() -> None:
    async with raw_server(says(HELLO, HELLO)) as server:
        client = UpstreamClient(server.url, patience=Patience(lifetime_s=0.0))
        await client.send(GET, timeout_s=5)
        assert client.pool.open_connections == 0
        await client.aclose()


async def test_a_connection_that_its_server_closed_is_not_used() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO)
        await writer.drain()
        writer.close()

    async with raw_server(handler) as server:
        client = UpstreamClient(server.url)
        for _ in range(5):
            assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
            await asyncio.sleep(0.02)
        assert server.connections == 5
        await client.aclose()


async def test_a_connection_that_was_closed_unheard_is_looked_at_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "LOOK_AFTER_REST_S", 0.0)
    async with raw_server(says(HELLO, HELLO)) as server:
        with socket.create_server(("127.0.0.1", 0)) as stale:
            client = UpstreamClient(f"http://127.0.0.1:{stale.getsockname()[1]}")
            sending = asyncio.ensure_future(client.send(GET, timeout_s=5))
            await asyncio.sleep(0.05)
            accepted, _ = stale.accept()
            accepted.recv(1000)
            accepted.sendall(HELLO)
            assert await body_of(await sending) == b"hello"
            assert client.pool.idle_connections == 1
            # The loop does not run between the close and the next request.
            accepted.close()
            client._origin = Origin.of(server.url)
            assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        assert server.connections == 1
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        assert server.connections == 1
        await client.aclose()


# ------------------------------------------------------------------ the line


async def test_no_more_connections_are_opened_than_allowed_and_the_rest_stands_in_line() -> None:
    open_now = most = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        while True:
            await read_request(reader)
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.01)
            open_now -= 1
            writer.write(HELLO)

    async with client_of(handler, connections=3, waiting=100) as client:
        answers = await asyncio.gather(*[client.send(GET, timeout_s=5) for _ in range(30)])
        assert [await body_of(answer) for answer in answers] == [b"hello"] * 30
        assert most == 3
        assert client.pool.open_connections == 3
        assert client.pool.waiting_requests == 0


async def test_a_full_line_refuses() -> None:
    async with client_of(silent(), connections=1, waiting=1) as client:
        sending = [asyncio.ensure_future(client.send(GET, timeout_s=5)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert client.pool.waiting_requests == 1
        with pytest.raises(UpstreamBusy) as caught:
            await client.send(GET, timeout_s=5)
        assert (caught.value.code, caught.value.retry_after_s) == ("upstream-busy", 1)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        assert (client.pool.waiting_requests, client.pool.open_connections) == (0, 0)


async def test_a_line_that_does_not_move_refuses_in_time() -> None:
    async with client_of(silent(), connections=1) as client:
        sending = asyncio.ensure_future(client.send(GET, timeout_s=5))
        await asyncio.sleep(0.05)
        with pytest.raises(UpstreamBusy):
            await client.send(GET, timeout_s=0.1)
        assert client.pool.waiting_requests == 0
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_place_in_line_survives_the_cancellation_of_others() -> None:
    async with client_of(says(*[HELLO] * 100), connections=1) as client:
        for _ in range(10):
            tasks = [asyncio.ensure_future(client.send(GET, timeout_s=5)) for _ in range(6)]
            await asyncio.sleep(0)
            for task in tasks[1::2]:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(not isinstance(answer, BaseException) for answer in done[0::2])
            assert client.pool.open_connections <= 1
            assert client.pool._connecting == 0


async def test_a_connection_that_dies_lets_the_next_in_line_open_one() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    async with client_of(handler, connections=1) as client:
        done = await asyncio.gather(
            *[client.send(GET, timeout_s=5) for _ in range(5)], return_exceptions=True
        )
        assert [type(e) for e in done] == [ExchangeFailed] * 5
        assert (client.pool.open_connections, client.pool._connecting) == (0, 0)


async def test_closing_waits_for_what_is_under_way() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.1)
        writer.write(HELLO)
        await asyncio.sleep(1)

    async with client_of(handler) as client:
        sending = asyncio.ensure_future(client.send(GET, timeout_s=5))
        await asyncio.sleep(0.05)
        await client.aclose(grace_s=2)
        assert await body_of(await sending) == b"hello"
        assert client.pool.open_connections == 0


async def test_closing_cuts_what_takes_too_long() -> None:
    async with client_of(silent()) as client:
        sending = asyncio.ensure_future(client.send(GET, timeout_s=5))
        while client.pool.open_connections == 0:  # noqa: ASYNC110 - a pool tells nobody
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        await client.aclose(grace_s=0.05)
        with pytest.raises(ExchangeFailed, match="cut off by the broker"):
            await sending


# ------------------------------------------------------------------ TLS and proxies


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_tls(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


async def test_a_server_with_a_certificate_of_the_ca_is_talked_to(
    authority: trustme.CA, ca_file: Path
) -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    async with raw_server(
        says(HELLO, large, HELLO), tls=server_tls(authority, "localhost")
    ) as server:
        client = UpstreamClient(server.url, tls=tls_context(ca_file))
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        assert len(await body_of(await client.send(GET, timeout_s=5))) == 3_000_000
        upload = UpstreamRequest("PUT", b"/x", (), pieces(*[b"x" * 60_000] * 50))
        assert await body_of(await client.send(upload, timeout_s=5)) == b"hello"
        assert server.connections == 1
        await client.aclose()


@pytest.mark.parametrize(
    ("host", "known"), [("elsewhere.example", True), ("localhost", False)], ids=["host", "CA"]
)
async def test_a_server_with_another_certificate_is_not_talked_to(
    authority: trustme.CA,
    ca_file: Path,
    host: str,
    known: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with raw_server(says(HELLO), tls=server_tls(authority, host)) as server:
        client = UpstreamClient(server.url, tls=tls_context(ca_file if known else None))
        with pytest.raises(ExchangeFailed, match="certificate is not accepted") as caught:
            await client.send(GET, timeout_s=5)
        assert (caught.value.code, caught.value.sent) == ("upstream-unreachable", False)
        assert (client.pool.open_connections, client.pool._connecting) == (0, 0)
        await client.aclose()


def connect_proxy(answer: bytes, seen: list[bytes], target_port: int) -> Handler:
    """A forward proxy: answers CONNECT with `answer`, then passes bytes both ways."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_head(reader))
        writer.write(answer)
        if b" 200 " not in answer:
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target_port)
        try:
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        finally:
            there_writer.close()

    return handler


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_proxy_is_asked_to_connect_and_sees_no_more(
    authority: trustme.CA, ca_file: Path, version: bytes
) -> None:
    seen: list[bytes] = []
    opened = version + b" 200 Connection established\r\n\r\n"
    async with (
        raw_server(says(HELLO, HELLO), tls=server_tls(authority, "localhost")) as server,
        raw_server(connect_proxy(opened, seen, server.port)) as proxy,
    ):
        client = UpstreamClient(
            server.url,
            tls=tls_context(ca_file),
            proxy=HttpProxy(host="127.0.0.1", port=proxy.port, authorization=b"Basic eDp5"),
        )
        for _ in range(2):
            assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        await client.aclose()
        name = f"localhost:{server.port}".encode()
    assert seen == [
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic eDp5\r\n\r\n" % (name, name)
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refused the way with 403"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", "refused the way with 302"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "spoke before"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "cannot be read"),
        (b"", "closed the connection"),
    ],
)
async def test_a_proxy_that_does_not_open_the_way_is_named(
    ca_file: Path, answer: bytes, why: str
) -> None:
    async with raw_server(connect_proxy(answer.replace(b" 200 ", b" 299 "), [], 0)) as proxy:
        client = UpstreamClient(
            "https://contoso.crm4.dynamics.com",
            tls=tls_context(ca_file),
            proxy=HttpProxy(host="127.0.0.1", port=proxy.port),
        )
        with pytest.raises(ExchangeFailed, match=f"the proxy .*{why}") as caught:
            await client.send(GET, timeout_s=5)
        assert (caught.value.code, caught.value.stage) == ("upstream-unreachable", Stage.CONNECTING)
        await client.aclose()


# ------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://contoso.crm4.dynamics.com", "contoso.crm4.dynamics.com"),
        ("https://contoso.crm4.dynamics.com:443/", "contoso.crm4.dynamics.com"),
        ("https://localhost:8443", "localhost:8443"),
        ("http://localhost:80", "localhost"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_an_origin_is_written_as_host_expects_it(url: str, authority: str) -> None:
    assert Origin.of(url).authority == authority


def test_no_repr_shows_a_token() -> None:
    request = UpstreamRequest("GET", b"/x", ((b"Authorization", b"Bearer hunter2"),), b"hunter2")
    proxy = HttpProxy(host="proxy", port=80, authorization=b"Basic hunter2")
    assert "hunter2" not in repr(request) + repr(proxy) + repr(UpstreamClient("http://x"))
