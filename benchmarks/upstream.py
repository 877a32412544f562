"""CPU of one exchange with Dataverse: our client beside aiohttp's and httpx2's. One run, one table.

    python benchmarks/upstream.py             plain HTTP, 2 KB and 200 KB, at 1, 16, 64 connections
    python benchmarks/upstream.py --tls       over TLS
    python benchmarks/upstream.py --parts     what is done to an answer: links, gzip, heads

The server runs in a process of its own on the second core, the client under test alone on the
first; clients take turns, the median of the rounds counts. aiohttp and httpx2 are measured where
they are installed. The machine is shared and noisy: compare only inside one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import multiprocessing
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme
import uvloop

from app.dataverse.answer_headers import headers_for_caller
from app.dataverse.client import UpstreamClient, tls_context
from app.dataverse.codings import decoder_for
from app.dataverse.framing import AnswerReader
from app.dataverse.link_bases import LinkBases
from app.dataverse.links import LinkRewriter
from app.dataverse.message import UpstreamRequest
from app.dataverse.wire import request_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.queues import Queue

    from app.dataverse.link_bases import LinkKind

TARGET = "/api/data/v9.2/accounts?$select=name,telephone1"
HEADERS = {
    "Accept": "application/json",
    "Authorization": "Bearer " + "e" * 1200,
    "OData-Version": "4.0",
    "OData-MaxVersion": "4.0",
    "Prefer": "odata.maxpagesize=500",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
ANSWER_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Content-Type: application/json; odata.metadata=minimal\r\n"
    b"Content-Length: %d\r\n"
    b"x-ms-service-request-id: 8b1f7a52-5c2e-4d10-9d86-d081884c7d65\r\n"
    b"REQ_ID: 8b1f7a52-5c2e-4d10-9d86-d081884c7d65\r\n"
    b"OData-Version: 4.0\r\n"
    b"x-ms-ratelimit-burst-remaining-xrm-requests: 5999\r\n"
    b"Date: Mon, 01 Mar 2027 00:00:00 GMT\r\n\r\n"
)

Exchange = Callable[[], Awaitable[int]]


def page(size: int) -> bytes:
    """A page of rows of about so many bytes, as Dataverse writes them."""
    rows: list[dict[str, Any]] = []
    here = "https://contoso.crm4.dynamics.com/api/data/v9.2/"
    whole: dict[str, Any] = {"@odata.context": f"{here}$metadata#accounts(name)", "value": rows}
    body = b""
    while len(body) < size:
        rows.extend(
            {
                "@odata.etag": f'W/"{77181173 + number}"',
                "accountid": f"e73ffc82-e292-ed11-aad1-{number:012x}",
                "name": f"Contoso {number}",
                "telephone1": f"+49 30 {number}",
                "emailaddress1": f"info{number}@contoso.com",
                "revenue": number * 100.5,
            }
            for number in range(len(rows), len(rows) + max(1, size // 4000))
        )
        body = json.dumps(whole, separators=(",", ":")).encode()
    return body


# ------------------------------------------------------------------ the server


def serve(ports: Queue[int], body: bytes, certificate: str | None) -> None:
    answer = ANSWER_HEAD % len(body) + body

    class Answers(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            if data.endswith(b"\r\n\r\n"):
                self.transport.write(answer)  # type: ignore[attr-defined]

    async def run() -> None:
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answers, "127.0.0.1", 0, ssl=tls)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@contextlib.contextmanager
def server_of(body: bytes, certificate: Path | None) -> Any:
    context = multiprocessing.get_context("spawn")
    ports: Queue[int] = context.Queue()
    server = context.Process(
        target=serve, args=(ports, body, str(certificate) if certificate else None), daemon=True
    )
    server.start()
    try:
        cores = sorted(os.sched_getaffinity(0))
        assert server.pid is not None
        os.sched_setaffinity(server.pid, {cores[-1]})
        yield ports.get(timeout=30)
    finally:
        server.kill()
        server.join()


# ------------------------------------------------------------------ the clients


@contextlib.asynccontextmanager
async def own(url: str, tls: ssl.SSLContext | None, connections: int) -> AsyncIterator[Exchange]:
    client = UpstreamClient(url, tls=tls, connections=connections)
    headers = tuple((name.encode(), value.encode()) for name, value in HEADERS.items())
    request = UpstreamRequest("GET", TARGET.encode(), headers)

    async def exchange() -> int:
        answer = await client.send(request, timeout_s=30)
        size = 0
        async for chunk in answer.chunks():
            size += len(chunk)
        await answer.aclose()
        return size

    yield exchange
    await client.aclose()


@contextlib.asynccontextmanager
async def of_aiohttp(
    url: str, tls: ssl.SSLContext | None, connections: int
) -> AsyncIterator[Exchange]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=connections, ssl=tls if tls is not None else True)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def exchange() -> int:
            size = 0
            async with session.get(url + TARGET, headers=HEADERS, allow_redirects=False) as answer:
                async for chunk in answer.content.iter_any():
                    size += len(chunk)
            return size

        yield exchange


@contextlib.asynccontextmanager
async def of_httpx2(
    url: str, tls: ssl.SSLContext | None, connections: int
) -> AsyncIterator[Exchange]:
    import httpx2

    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx2.AsyncClient(
        verify=tls if tls is not None else True, limits=limits, trust_env=False
    ) as client:

        async def exchange() -> int:
            size = 0
            async with client.stream("GET", url + TARGET, headers=HEADERS) as answer:
                async for chunk in answer.aiter_raw():
                    size += len(chunk)
            return size

        yield exchange


CLIENTS = {"own": own, "aiohttp": of_aiohttp, "httpx2": of_httpx2}


async def measured(
    name: str, url: str, tls: ssl.SSLContext | None, *, connections: int, exchanges: int, size: int
) -> tuple[float, float]:
    """CPU µs an exchange, and exchanges a second."""
    async with CLIENTS[name](url, tls, connections) as exchange:

        async def client(times: int) -> None:
            for _ in range(times):
                assert await exchange() == size

        await asyncio.gather(*[client(3) for _ in range(connections)])
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*[client(exchanges // connections) for _ in range(connections)])
        done = exchanges // connections * connections
        return (
            (time.process_time() - cpu) / done * 1e6,
            done / (time.perf_counter() - began),
        )


def exchanges_table(*, tls: bool, rounds: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    names = [name for name in CLIENTS if _is_installed(name)]
    way = "TLS" if tls else "plain HTTP"
    print(f"\n{way}, median of {rounds}: CPU us an exchange (x own), per second")
    print(f"{'':>14}" + "".join(f"{name:>30}" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        context, certificate = _certificate(Path(folder)) if tls else (None, None)
        for size in (2_000, 200_000):
            body = page(size)
            with server_of(body, certificate) as port:
                url = f"{'https' if tls else 'http'}://localhost:{port}"
                for connections in (1, 16, 64):
                    _exchanges_row(url, context, len(body), connections, names, rounds)


def _exchanges_row(  # noqa: PLR0917 - a row of a table
    url: str,
    tls: ssl.SSLContext | None,
    size: int,
    connections: int,
    names: list[str],
    rounds: int,
) -> None:
    exchanges = 6_400 if size < 10_000 else 1_280
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            few = exchanges if name == "own" else exchanges // 4
            figures[name].append(
                uvloop.run(
                    measured(name, url, tls, connections=connections, exchanges=few, size=size)
                )
            )
    cells = []
    own_cpu = statistics.median(cpu for cpu, _ in figures["own"])
    for name in names:
        cpu = statistics.median(cpu for cpu, _ in figures[name])
        rate = statistics.median(rate for _, rate in figures[name])
        cells.append(f"{cpu:9.1f} ({cpu / own_cpu:4.1f})  {rate:9,.0f}/s")
    print(f"{size // 1000:>4} KB, {connections:>3} c." + "".join(f"{cell:>30}" for cell in cells))


def _is_installed(name: str) -> bool:
    if name == "own":
        return True
    try:
        __import__(name)
    except ImportError:
        print(f"{name} is not installed, and left out")
        return False
    return True


def _certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    for name, blob in (
        ("ca", authority.cert_pem),
        ("server", issued.private_key_and_cert_chain_pem),
    ):
        blob.write_to_path(str(folder / f"{name}.pem"))
    return tls_context(folder / "ca.pem"), folder / "server.pem"


# ------------------------------------------------------------------ the parts


def parts_table(rounds: int) -> None:
    bases = LinkBases(
        environment="https://contoso.crm4.dynamics.com",
        broker="https://broker.example/environments/contoso",
    )

    def seal(kind: LinkKind, owner: str, url: str) -> str | None:  # noqa: ARG001
        return "https://broker.example/environments/contoso/sealed"

    small, large = page(2_000), page(200_000)
    packed_small, packed_large = gzip.compress(small), gzip.compress(large)
    head = ANSWER_HEAD % len(small)
    reader = AnswerReader(head_only=True)
    reader.feed(head)
    names = tuple((name.encode(), value.encode()) for name, value in HEADERS.items())

    def links(body: bytes, step: int) -> None:
        rewriter = LinkRewriter(bases, seal)
        for start in range(0, len(body), step):
            rewriter.feed(body[start : start + step])
        rewriter.finish()

    def unpacked(packed: bytes) -> None:
        decoder = decoder_for(b"gzip")
        assert decoder is not None
        for _ in decoder.feed(packed):
            pass

    parts: dict[str, Callable[[], object]] = {
        "write a request's head": lambda: request_head(
            "GET", TARGET.encode(), b"contoso.crm4.dynamics.com", names, b""
        ),
        "read an answer's head": lambda: AnswerReader(head_only=True).feed(head),
        "headers for the caller": lambda: headers_for_caller(
            reader.headers, bases=bases, seal=seal, body_rewritten=True
        ),
        f"links in {len(small) // 1000} KB": lambda: links(small, len(small)),
        f"links in {len(large) // 1000} KB, in 64 KiB": lambda: links(large, 65_536),
        f"links in {len(large) // 1000} KB, in 4 KiB": lambda: links(large, 4_096),
        f"unpack {len(small) // 1000} KB": lambda: unpacked(packed_small),
        f"unpack {len(large) // 1000} KB": lambda: unpacked(packed_large),
    }
    print(f"\nparts of an answer, best of {rounds}: us")
    for name, part in parts.items():
        print(f"{name:>32} {min(_timed(part) for _ in range(rounds)):10.1f}")


def _timed(part: Callable[[], object]) -> float:
    part()
    times, began = 0, time.perf_counter()
    while time.perf_counter() - began < 0.05:
        for _ in range(10):
            part()
        times += 10
    return (time.perf_counter() - began) / times * 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--tls", action="store_true")
    arguments.add_argument("--parts", action="store_true")
    arguments.add_argument("--rounds", type=int, default=5)
    wanted = arguments.parse_args()
    if wanted.parts:
        parts_table(wanted.rounds)
    else:
        exchanges_table(tls=wanted.tls, rounds=wanted.rounds)


if __name__ == "__main__":
    main()
