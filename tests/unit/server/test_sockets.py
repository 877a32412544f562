"""On real sockets, as the broker is served: uvloop, TLS, and a kernel that resets connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvloop

from app.server import connection as connections
from app.server.connection import PIPELINE_MAX
from tests.path.raw_http import Closed, RawConnection
from tests.unit.server.in_memory import echo
from tests.unit.server.on_sockets import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.web.asgi import App, Receive, Scope, Send

LARGE = 20_000_000
GET = b"GET /counted HTTP/1.1\r\nHost: h\r\n\r\n"


def served(app: App, call: Callable[[int], Any], **options: Any) -> Any:
    """What `call`, in a thread of its own, gets of a server at that port; then the server ends."""

    async def serve() -> Any:
        async with serving(app, grace_s=10, **options) as port:
            return await asyncio.to_thread(call, port)

    return uvloop.run(serve())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    return {"ssl_certfile": str(chain), "ssl_keyfile": str(key)}


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def large(scope: Scope, _receive: Receive, send: Send) -> None:
    """In one piece, or in many; `/declined` is small, and does not wait for the body."""
    path = scope["path"]
    if path == "/declined":
        headers = [(b"content-length", b"9"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b"too large"})
        return
    headers = [(b"x-scheme", scope["scheme"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    pieces = 1 if path == "/whole" else 200
    for number in range(pieces):
        more = path == "/broken" or number < pieces - 1
        body = b"x" * (LARGE // pieces)
        await send({"type": "http.response.body", "body": body, "more_body": more})


def get(path: str, *, version: str = "1.1", more: str = "") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: h\r\n{more}\r\n".encode()


def to_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
def test_a_large_answer_arrives_over_tls(
    path: str, secured: dict[str, str], trusting: ssl.SSLContext
) -> None:
    def call(port: int) -> None:
        with RawConnection(port, tls=trusting) as connection:
            for _ in range(2):
                connection.send(get(path))
                answer = connection.answer()
                assert answer.header("x-scheme") == "https"
                assert len(answer.body) == LARGE
            connection.send(get(path, more="Connection: close\r\n"))
            answer = connection.answer()
            assert (answer.header("connection"), len(answer.body)) == ("close", LARGE)
            assert connection.rest() == b""
        with RawConnection(port, tls=trusting) as connection:
            connection.send(get(path, version="1.0"))
            assert len(connection.answer().body) == LARGE
        with RawConnection(port, tls=trusting) as connection:
            connection.send(b"nonsense\r\n\r\n")
            assert connection.answer().status == 400

    served(large, call, **secured)


def test_an_answer_that_breaks_off_is_an_error_over_tls(
    secured: dict[str, str], trusting: ssl.SSLContext
) -> None:
    def call(port: int) -> None:
        with RawConnection(port, tls=trusting) as connection:
            connection.send(get("/broken"))
            with pytest.raises(Closed):
                connection.answer()
        for path, whole in (("/pieces", True), ("/broken", False)):
            plain = socket.create_connection(("127.0.0.1", port), timeout=10)
            with trusting.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as secure:
                secure.sendall(get(path, version="1.0"))
                # An orderly end is told inside of TLS, and is none where it is not.
                errors = (ssl.SSLEOFError, ConnectionResetError)
                with contextlib.nullcontext() if whole else pytest.raises(errors):
                    to_the_end(secure)

    served(large, call, **secured)


def test_an_answer_without_a_length_that_breaks_off_is_an_error() -> None:
    def call(port: int) -> None:
        with RawConnection(port) as connection:
            connection.send(get("/broken", version="1.0"))
            with pytest.raises(ConnectionResetError):
                to_the_end(connection.socket)
        with RawConnection(port) as connection:
            connection.send(get("/pieces", version="1.0"))
            assert len(connection.answer().body) == LARGE

    served(large, call)


@pytest.mark.parametrize("path", [b"/declined", b"/whole"])
def test_who_sends_all_before_he_reads_gets_the_early_answer(path: bytes) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (path, LARGE)

    def call(port: int) -> None:
        with RawConnection(port) as connection:
            connection.send(head + b"x" * LARGE)
            answer = connection.answer()
            if path == b"/declined":
                assert (answer.status, answer.body) == (413, b"too large")
                assert connection.rest() == b""
            else:
                assert (answer.status, len(answer.body)) == (200, LARGE)
                connection.send(get("/whole"))
                assert len(connection.answer().body) == LARGE

    served(large, call)


def test_more_requests_than_may_wait_do_not_take_the_answers_back() -> None:
    def call(port: int) -> None:
        with RawConnection(port) as connection:
            connection.send(GET * 20_000)
            answers = [connection.answer() for _ in range(PIPELINE_MAX + 1)]
            while answers[-1].header("connection") is None:
                answers.append(connection.answer())
            assert {answer.status for answer in answers} == {200}
            assert connection.rest() == b""

    served(echo, call)


def test_who_reads_slowly_gets_all_that_he_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.1)

    def call(port: int) -> None:
        for more in ("", "Connection: close\r\n"):
            with RawConnection(port) as connection:
                connection.send(get("/whole", more=more))
                time.sleep(0.5)
                assert len(connection.answer().body) == LARGE
                assert connection.rest() == b""

    served(large, call, timeout_keep_alive=0)


@pytest.mark.parametrize("begun", [b"", GET, GET + b"GET /", b"nonsense\r\n\r\n"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_end_of_the_server_waits_for_nobody_who_says_nothing(
    begun: bytes,
    *,
    tls: bool,
    secured: dict[str, str],
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.5)
    monkeypatch.setattr(connections, "PARTING_S", 0.1)
    open_still = []

    def call(port: int) -> None:
        connection = RawConnection(port, tls=trusting if tls else None)
        open_still.append(connection)
        connection.send(begun)
        if begun:
            connection.answer()

    began = time.monotonic()
    served(echo, call, **(secured if tls else {}))
    assert time.monotonic() - began < 5
    open_still[0].close()
