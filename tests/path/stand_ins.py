"""An Entra and a Dataverse that say what a test tells them, and keep every byte that arrives.

They share nothing with the sandbox: what the sandbox and the broker could both get wrong is seen
here as it stands on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as it came: `raw` is all of it."""

    raw: bytes = field(repr=False)
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def decoded(self) -> str:
        """The target, decoded once; `+` in the query is a space."""
        path, mark, query = self.target.partition("?")
        return unquote_plus(path.replace("+", "%2B")) + mark + unquote_plus(query)


Conduct = Callable[[Arrived, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers by itself; the connection is closed when it returns."""

Answering = Callable[[Arrived], "bytes | Conduct"]


@dataclass(slots=True)
class StandIn:
    """A server on loopback, on a loop of its own thread. `answer` may be changed at any time."""

    port: int
    answer: Answering
    arrived: list[Arrived] = field(default_factory=list)
    at_head: Conduct | None = None
    """Takes over before the body is read."""
    errors: list[BaseException] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def clear(self) -> None:
        self.arrived.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - shown to the test
            self.errors.append(error)
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as incomplete:
            if incomplete.partial:
                raise
            return False
        line, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        pairs = [text.partition(":") for text in lines]
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        arrived = Arrived(head, method, target, headers)
        if self.at_head is not None:
            await self.at_head(arrived, reader, writer)
            return False
        framed, body = await _body(arrived, reader)
        arrived = Arrived(head + framed, method, target, headers, body)
        self.arrived.append(arrived)
        answer = self.answer(arrived)
        if not isinstance(answer, bytes):
            await answer(arrived, reader, writer)
            return False
        writer.write(answer)
        await writer.drain()
        return True


async def _body(arrived: Arrived, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """As it was framed, and without the framing."""
    if "chunked" in (arrived.header("transfer-encoding") or ""):
        framed, body = b"", b""
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line, 16)
            chunk = await reader.readexactly(size + 2)
            framed += line + chunk
            if not size:
                return framed, body
            body += chunk[:-2]
    length = int(arrived.header("content-length") or 0)
    body = await reader.readexactly(length)
    return body, body


class StandInHost:
    """The thread and the loop that stand-ins run on."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="stand-ins", daemon=True)
        self._servers: list[asyncio.Server] = []

    def start(self, answer: Answering) -> StandIn:
        async def listen() -> StandIn:
            made = StandIn(0, answer)
            server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=1 << 20)
            made.port = server.sockets[0].getsockname()[1]
            self._servers.append(server)
            return made

        return asyncio.run_coroutine_threadsafe(listen(), self.loop).result(10)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        async def stop() -> None:
            for server in self._servers:
                server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextlib.contextmanager
def stand_in_host() -> Iterator[StandInHost]:
    host = StandInHost()
    host.open()
    try:
        yield host
    finally:
        host.close()


# ------------------------------------------------------------------- what they say


def says(
    status: int = 200,
    body: bytes | str | Any = b"",
    headers: tuple[tuple[str, str], ...] | dict[str, str] = (),
) -> bytes:
    """A whole answer, framed by Content-Length. JSON where `body` is neither text nor bytes."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
        if all(name.lower() != "content-type" for name, _ in pairs):
            pairs.append(("Content-Type", "application/json; odata.metadata=minimal"))
    if status not in {204, 304}:
        pairs.append(("Content-Length", str(len(body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode("latin-1") + body


def entra(arrived: Arrived) -> bytes:
    """Discovery, and one token after another for whoever asks."""
    base = f"http://{arrived.header('host')}"
    tenant = arrived.target.split("/")[1]
    if arrived.method == "GET":
        return says(
            200,
            {
                "issuer": f"{base}/{tenant}/v2.0",
                "authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/{tenant}/oauth2/v2.0/token",
            },
        )
    entra.count += 1  # type: ignore[attr-defined]
    token = f"stand-in.token.{entra.count}"  # type: ignore[attr-defined]
    return says(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": token})


entra.count = 0  # type: ignore[attr-defined]


def ordinary(arrived: Arrived) -> bytes:
    """Any plausible answer of a Dataverse."""
    if arrived.method == "POST" and arrived.target.endswith("/$batch"):
        return batch_answer(arrived)
    if arrived.method == "GET":
        return says(
            200,
            {"value": [{"@odata.etag": 'W/"4711"', "accountid": ROW_ID, "name": "Contoso"}]},
            (("Content-Type", JSON), ("OData-Version", "4.0")),
        )
    if arrived.method == "POST":
        base = f"http://{arrived.header('host')}"
        path = arrived.target.partition("?")[0]
        return says(204, b"", (("OData-EntityId", f"{base}{path}({ROW_ID})"),))
    return says(204, b"", (("OData-Version", "4.0"),))


JSON = "application/json; odata.metadata=minimal"
ROW_ID = "11111111-1111-1111-1111-111111111111"


def batch_answer(arrived: Arrived) -> bytes:
    """200 for each inner request, in one flat multipart."""
    inner = arrived.body.count(b" HTTP/1.1")
    part = (
        "--batchresponse_1\r\nContent-Type: application/http\r\n"
        "Content-Transfer-Encoding: binary\r\n\r\n"
        "HTTP/1.1 204 No Content\r\nOData-Version: 4.0\r\n\r\n\r\n"
    )
    body = part * inner + "--batchresponse_1--\r\n"
    return says(200, body, {"Content-Type": "multipart/mixed; boundary=batchresponse_1"})
