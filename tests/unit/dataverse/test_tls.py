"""Our own TLS transport against OpenSSL's other half, without a socket."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from app.dataverse.tls import Tls

pytestmark = pytest.mark.anyio

SAID = bytes(range(256)) * 300


class Outside(asyncio.Transport):
    """A transport that keeps what is written, until the other half reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Tls | None = None
        self.written = b""
        self.reading = True
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closing
        self.written += data

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": "the socket"}.get(name, default)


class Inside:
    """Notes what it is told; `enough` bytes make it pause."""

    def __init__(self, buffer_bytes: int, enough: int) -> None:
        self.buffer = memoryview(bytearray(buffer_bytes))
        self.enough = enough
        self.got = b""
        self.events: list[str] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]
        if len(self.got) >= self.enough:
            self.transport.pause_reading()

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost" if exc is None else type(exc).__name__)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


class Pair:
    """Both ends of a connection whose bytes the test carries."""

    def __init__(
        self,
        authority: trustme.CA,
        *,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        host: str = "localhost",
        buffer_bytes: int = 24 * 1024,
        enough: int = 1 << 30,
    ) -> None:
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.maximum_version = version
        authority.issue_cert("localhost").configure_cert(served)
        self.there, self.back = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = served.wrap_bio(self.there, self.back, server_side=True)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        self.inside = Inside(buffer_bytes, enough)
        self.outside = Outside()
        self.tls = Tls(self.inside, trusting, host=host, loop=asyncio.get_running_loop())
        self.outside.protocol = self.tls
        self.tls.connection_made(self.outside)

    def arrive(self, data: bytes) -> None:
        """As the loop does it: through the buffer, no more than fits."""
        while data and not self.outside.closing:
            buffer = self.tls.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size], data = data[:size], data[size:]
            self.tls.buffer_updated(size)

    def take(self) -> bytes:
        """What the client has said reaches the server; what that said in return."""
        self.there.write(self.outside.written)
        self.outside.written = b""
        return self.back.read()

    async def agree(self) -> None:
        agreed = asyncio.ensure_future(self.tls.agree(self.outside))
        for _ in range(4):
            answer = self.take()
            try:
                self.server.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                break
            self.arrive(answer + self.back.read())
        await agreed


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
@pytest.mark.parametrize("buffer_bytes", [100, 24 * 1024])
async def test_what_is_said_arrives_however_it_is_cut(
    authority: trustme.CA, version: ssl.TLSVersion, step: int, buffer_bytes: int
) -> None:
    pair = Pair(authority, version=version, buffer_bytes=buffer_bytes)
    await pair.agree()
    pair.server.write(SAID)
    sent = pair.back.read()
    for at in range(0, len(sent), step):
        pair.arrive(sent[at : at + step])
    assert pair.inside.got == SAID
    pair.tls.write(SAID[:70_000])
    pair.take()
    heard = b""
    while len(heard) < 70_000:
        heard += pair.server.read(70_000)
    assert heard == SAID[:70_000]
    assert pair.inside.events == ["made"]
    assert pair.tls.get_extra_info("socket") == "the socket"
    assert pair.tls.get_extra_info("ssl_object").version() is not None


@pytest.mark.parametrize("in_order", [True, False])
async def test_who_has_enough_gets_no_more_until_he_asks(
    authority: trustme.CA, *, in_order: bool
) -> None:
    pair = Pair(authority, buffer_bytes=1000, enough=1500)
    await pair.agree()
    pair.server.write(SAID)
    if in_order:
        with pytest.raises(ssl.SSLWantReadError):
            pair.server.unwrap()
    pair.arrive(pair.back.read())
    assert (len(pair.inside.got), pair.outside.reading) == (2000, False)
    pair.tls.eof_received()
    assert pair.inside.events == ["made"], "what has come is taken before its end is told"
    pair.inside.enough = 1 << 30
    pair.inside.transport.resume_reading()
    await asyncio.sleep(0.01)
    assert pair.inside.got == SAID
    assert pair.inside.events == ["made", *(["eof"] if in_order else []), "lost"]


async def test_an_end_in_good_order_is_told_from_a_cut(authority: trustme.CA) -> None:
    for in_order in (True, False):
        pair = Pair(authority)
        await pair.agree()
        pair.server.write(SAID)
        if in_order:
            with pytest.raises(ssl.SSLWantReadError):
                pair.server.unwrap()
        pair.arrive(pair.back.read())
        pair.tls.eof_received()
        await asyncio.sleep(0.01)
        assert pair.inside.got == SAID
        assert pair.inside.events == ["made", *(["eof"] if in_order else []), "lost"]


async def test_a_record_that_was_changed_ends_the_connection(authority: trustme.CA) -> None:
    pair = Pair(authority)
    await pair.agree()
    pair.server.write(b"hello")
    whole = pair.back.read()
    pair.server.write(b"world")
    changed = bytearray(pair.back.read())
    changed[-1] ^= 1
    pair.arrive(whole + bytes(changed))
    await asyncio.sleep(0.01)
    assert pair.inside.got == b"hello"
    assert pair.inside.events == ["made", "lost"]
    pair.tls.write(b"too late")
    assert pair.tls.is_closing()


async def test_nothing_is_said_to_another_host(authority: trustme.CA) -> None:
    pair = Pair(authority, host="elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await pair.agree()
    await asyncio.sleep(0.01)
    assert (pair.inside.events, pair.tls.is_closing()) == ([], True)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_who_speaks_no_tls_is_not_spoken_to(authority: trustme.CA, answer: bytes) -> None:
    pair = Pair(authority)
    agreed = asyncio.ensure_future(pair.tls.agree(pair.outside))
    pair.arrive(answer)
    if not answer:
        assert not pair.tls.eof_received()
        pair.outside.abort()
    with pytest.raises(OSError, match="lost before TLS" if not answer else "SSL"):
        await agreed
    assert pair.inside.events == []


async def test_a_caller_who_gives_up_takes_the_connection_with_him(authority: trustme.CA) -> None:
    pair = Pair(authority)
    agreed = asyncio.ensure_future(pair.tls.agree(pair.outside))
    await asyncio.sleep(0)
    agreed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await agreed
    assert pair.outside.closing
