"""What the upstream client makes of a Dataverse that breaks, lies, stalls or is not there.

Nothing hangs, nothing leaks, and no byte of one answer reaches the reader of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from app.dataverse.answer import READ_BYTES, UNREAD_HIGH_BYTES
from app.dataverse.client import UpstreamClient, tls_context
from app.dataverse.connection import Connection, Patience
from app.dataverse.failures import ExchangeFailed, FailureCode, Stage, UpstreamBusy
from app.dataverse.message import UpstreamRequest
from app.dataverse.retries import Again, Tries, after_failure
from tests.unit.dataverse.servers import Handler, raw_server, read_request, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from app.dataverse.answer import Answer

pytestmark = pytest.mark.anyio

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = UpstreamRequest("GET", b"/api/data/v9.2/accounts", ())
IMPATIENT = Patience(connect_s=0.3, idle_s=0.3, total_s=10.0)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No more tasks, descriptors and connections after than before.

    Fewer is fine: what an earlier test opened may be closing still when this one counts.
    """
    # A loop opens descriptors of its own with its first connection.
    async with raw_server(says(HELLO)) as server:
        client = UpstreamClient(server.url)
        await (await client.send(GET, timeout_s=5)).aclose()
        await client.aclose()
    await asyncio.sleep(0.05)
    before = _counted()
    yield
    for _ in range(100):
        if _none_more(_counted(), before):
            return
        await asyncio.sleep(0.02)
    assert _none_more(_counted(), before), (_counted(), before)


def _none_more(after: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
    return all(a <= b for a, b in zip(after, before, strict=True))


def _counted() -> tuple[int, int, int]:
    gc.collect()
    connections = [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
    open_ones = [c for c in connections if c._transport is not None and not c.closed]
    descriptors = list(Path("/proc/self/fd").iterdir())
    return len(asyncio.all_tasks()), len(descriptors), len(open_ones)


@contextlib.asynccontextmanager
async def client_of(
    handler: Handler, *, patience: Patience = IMPATIENT, connections: int = 10
) -> AsyncIterator[UpstreamClient]:
    async with nothing_left(), raw_server(handler) as server:
        client = UpstreamClient(server.url, patience=patience, connections=connections, waiting=1)
        try:
            yield client
        finally:
            await client.aclose()


async def body_of(answer: Answer) -> bytes:
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.aclose()


def reset(writer: asyncio.StreamWriter) -> None:
    """RST, not FIN."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


def says_then(data: bytes, *, then: str) -> Handler:
    """Answers every request so, and then closes, resets or falls silent."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)
        if then == "reset":
            reset(writer)
        elif then == "silence":
            await reader.read()

    return handler


COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
HALF_A_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello"


@pytest.mark.parametrize("data", [COUNTED, HALF_A_CHUNK], ids=["counted", "chunked"])
@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("reset", "upstream-broke"),
        ("close", "upstream-broke"),
        ("silence", "upstream-timeout"),
    ],
)
async def test_a_body_that_does_not_end_is_never_taken_for_a_whole_one(
    data: bytes, then: str, code: FailureCode
) -> None:
    async with client_of(says_then(data, then=then)) as client:
        answer = await client.send(GET, timeout_s=5)
        chunks = answer.chunks()
        assert await anext(chunks) == b"hello"
        with pytest.raises(ExchangeFailed) as caught:
            await anext(chunks)
        with pytest.raises(ExchangeFailed):
            await anext(chunks)
        await answer.aclose()
        assert (caught.value.code, caught.value.stage) == (code, Stage.ANSWERING)
        assert client.pool.open_connections == 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            "Content-Length",
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\n\r\n",
            "Transfer-Encoding",
            id="length and chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\nContent-Length: 5\r\n\r\nhello",
            "longer than",
            id="header of 100 KB",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhello", "where its body ends", id="no length"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28" * 10, "not HTTP/1.1", id="TLS alert"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "switched protocols",
            id="upgrade",
        ),
    ],
)
async def test_an_answer_that_can_be_read_in_two_ways_ends_its_connection(
    data: bytes, why: str
) -> None:
    async with client_of(says_then(data, then="silence")) as client:
        with pytest.raises(ExchangeFailed, match=why) as caught:
            await client.send(GET, timeout_s=5)
        assert (caught.value.code, caught.value.sent) == ("upstream-malformed", True)
        assert client.pool.open_connections == 0


async def test_a_redirect_to_elsewhere_is_an_answer_like_others() -> None:
    redirect = (
        b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
    )
    async with client_of(says_then(redirect, then="silence")) as client:
        answer = await client.send(GET, timeout_s=5)
        assert (answer.status, await body_of(answer)) == (302, b"")


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_stale_connection_is_told_from_a_broken_one_and_the_next_is_new(then: str) -> None:
    seen = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await read_request(reader)
        writer.write(HELLO)
        await read_request(reader)
        seen += 1
        if seen == 1:
            # As a front end does that has just given the connection up for idle.
            if then == "reset":
                reset(writer)
            return
        writer.write(HELLO)

    async with client_of(handler) as client:
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"
        with pytest.raises(ExchangeFailed) as caught:
            await client.send(GET, timeout_s=5)
        failure = caught.value
        assert (failure.code, failure.stage, failure.reused) == (
            "upstream-broke",
            Stage.WAITING,
            True,
        )
        again = after_failure(Tries(method="GET"), failure, remaining_s=5)
        assert again == Again(pause_s=0.0, because="broken-off", fresh_connection=True)
        assert await body_of(await client.send(GET, timeout_s=5, fresh=True)) == b"hello"


async def test_a_first_connection_that_closes_without_an_answer_is_not_called_stale() -> None:
    async with client_of(says_then(b"", then="close")) as client:
        with pytest.raises(ExchangeFailed, match="without an answer") as caught:
            await client.send(GET, timeout_s=5)
        assert (caught.value.stage, caught.value.reused) == (Stage.WAITING, False)


async def test_a_head_that_drips_does_not_win_time() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in HELLO:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    async with client_of(handler) as client:
        began = time.monotonic()
        with pytest.raises(ExchangeFailed, match="no answer in time") as caught:
            await client.send(GET, timeout_s=0.4)
        assert caught.value.code == "upstream-timeout"
        assert 0.3 < time.monotonic() - began < 1.5


async def test_an_exchange_that_drips_for_ever_ends() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    # Far more than the pause between two drops, so that a busy machine makes no silence of it.
    patience = Patience(idle_s=1.5, total_s=2.5)
    async with client_of(handler, patience=patience) as client:
        with pytest.raises(ExchangeFailed, match="took too long"):
            await body_of(await client.send(GET, timeout_s=10))


async def test_a_reader_that_takes_for_ever_does_not_count_as_a_silent_dataverse() -> None:
    size = 3_000_000

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await writer.drain()
        await reader.read()

    async with client_of(handler) as client:
        answer = await client.send(GET, timeout_s=5)
        await asyncio.sleep(0.8)
        assert len(await body_of(answer)) == size


async def test_an_upload_that_nobody_takes_ends() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(10)

    async with client_of(handler) as client:
        with pytest.raises(ExchangeFailed, match="took no more of the request") as caught:
            await client.send(UpstreamRequest("PUT", b"/x", (), endless()), timeout_s=5)
        assert (caught.value.code, caught.value.stage) == ("upstream-timeout", Stage.SENDING)


async def test_an_upload_whose_connection_resets_is_told() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(200_000)
        reset(writer)

    async with client_of(handler) as client:
        with pytest.raises(ExchangeFailed) as caught:
            await client.send(UpstreamRequest("PUT", b"/x", (), endless()), timeout_s=5)
        assert (caught.value.code, caught.value.stage) == ("upstream-broke", Stage.SENDING)


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.08])
async def test_a_cancellation_at_any_moment_leaves_nothing(after_s: float) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0.01)
            yield b"x" * 1000

    async def read(client: UpstreamClient, request: UpstreamRequest) -> None:
        await body_of(await client.send(request, timeout_s=5))

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            await asyncio.sleep(0.01)
            writer.write(b"helloworld")

    async with client_of(handler, connections=2) as client:
        tasks = [
            asyncio.ensure_future(read(client, request))
            for request in (GET, UpstreamRequest("PUT", b"/x", (), slow()), GET)
        ]
        await asyncio.sleep(after_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (client.pool.waiting_requests, client.pool._connecting) == (0, 0)
        await read(client, GET)


# ------------------------------------------------------------------ not there at all


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_a_certificate_of_another_host_is_refused_before_anything_is_sent(
    authority: trustme.CA, tmp_path: Path
) -> None:
    read: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        read.append(await reader.read())

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with nothing_left(), raw_server(handler, tls=tls) as server:
        client = UpstreamClient(server.url, tls=tls_context(tmp_path / "ca.pem"))
        with pytest.raises(ExchangeFailed, match="Hostname mismatch") as caught:
            await client.send(GET, timeout_s=5)
        assert (caught.value.code, caught.value.sent) == ("upstream-unreachable", False)
        await client.aclose()
    assert not any(read)


async def test_a_tls_handshake_without_end_is_given_up() -> None:
    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with nothing_left(), raw_server(handler) as server:
        client = UpstreamClient(
            server.url.replace("http:", "https:"), tls=tls_context(), patience=IMPATIENT
        )
        with pytest.raises(ExchangeFailed, match="no connection in time") as caught:
            await client.send(GET, timeout_s=5)
        assert (caught.value.code, caught.value.sent) == ("upstream-unreachable", False)
        await client.aclose()


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    client = UpstreamClient("http://contoso.crm4.dynamics.invalid", patience=Patience())
    with pytest.raises(ExchangeFailed, match="name cannot be resolved") as caught:
        await client.send(GET, timeout_s=5)
    assert (caught.value.code, caught.value.sent) == ("upstream-unreachable", False)
    assert "contoso.crm4.dynamics.invalid" in caught.value.detail
    assert "accounts" not in caught.value.detail


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        client = UpstreamClient(f"http://127.0.0.1:{port}")
        with pytest.raises(ExchangeFailed, match="Connection refused") as caught:
            await client.send(GET, timeout_s=5)
    assert (caught.value.code, caught.value.sent) == ("upstream-unreachable", False)
    assert (client.pool.open_connections, client.pool._connecting) == (0, 0)


# ------------------------------------------------------------------ crowds


async def test_an_exhausted_pool_answers_at_once_and_recovers() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await asyncio.sleep(0.2)
            writer.write(HELLO)

    async with client_of(handler, connections=2) as client:
        began = time.monotonic()
        done = await asyncio.gather(
            *[client.send(GET, timeout_s=5) for _ in range(20)], return_exceptions=True
        )
        refused = [e for e in done if isinstance(e, UpstreamBusy)]
        assert len(refused) == 17
        assert time.monotonic() - began < 1.5
        assert await body_of(await client.send(GET, timeout_s=5)) == b"hello"


_GENEROUS = """
import asyncio, resource, ssl, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
async def serve(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4000000\\r\\n\\r\\n")
        for _ in range(40):
            writer.write(b"x" * 100000)
            await writer.drain()
        await reader.read()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
async def main():
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def generous_server(*certificate: str) -> Iterator[int]:
    """Gives everybody 4 MB, from a process of its own: its sockets and memory do not count."""
    with subprocess.Popen(
        [sys.executable, "-c", _GENEROUS, *certificate], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(("readers", "tls"), [(500, False), (200, True)], ids=["plain", "TLS"])
async def test_slow_readers_hold_no_more_than_128_kib_each(
    authority: trustme.CA, tmp_path: Path, readers: int, *, tls: bool
) -> None:
    """Of the 256 KiB that a stream may hold: the caller's half wants as much again."""
    certificate, ca_file = tmp_path / "server.pem", tmp_path / "ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(ca_file))
    async with nothing_left():
        with generous_server(*([str(certificate)] if tls else [])) as port:
            client = UpstreamClient(
                f"{'https' if tls else 'http'}://localhost:{port}",
                tls=tls_context(ca_file) if tls else None,
                connections=readers,
            )
            gc.collect()
            before = _resident_bytes()
            answers = await asyncio.gather(
                *[client.send(GET, timeout_s=30) for _ in range(readers)]
            )
            for answer in answers:
                await anext(answer.chunks())
            await asyncio.sleep(0.5)
            held = [answer._unread_bytes for answer in answers]
            assert max(held) <= UNREAD_HIGH_BYTES + READ_BYTES
            assert _resident_bytes() - before <= readers * 128 * 1024
            first = 0
            async for chunk in answers[0].chunks():
                first += len(chunk)
            assert first > 3_000_000
            for answer in answers:
                await answer.aclose()
            assert client.pool.open_connections == 1
            await client.aclose()
