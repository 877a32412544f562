"""A connection without a socket: what arrives is cut as a test likes, what leaves is kept."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.server import ServerState

from app.server.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.web.asgi import App, Receive, Scope, Send


class Transport(asyncio.Transport):
    """Takes everything at once, unless `full` says that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.out = bytearray()
        self.protocol: Any = None
        self.paused = False
        self.closing = False
        self.aborted = False
        self.half_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        known = {"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 443)}
        return known.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.half_closed
        if not self.closing:
            self.out += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What is written is taken as the test says."""

    def pause_reading(self) -> None:
        assert not self.closing
        self.paused = True

    def resume_reading(self) -> None:
        assert not self.closing
        self.paused = False


@functools.lru_cache(maxsize=2)
def config_of(app: App) -> uvicorn.Config:
    config = uvicorn.Config(
        app, log_config=None, interface="asgi3", lifespan="off", access_log=False, ws="none"
    )
    config.load()
    return config


class Caller:
    """The other side of one connection to `app`."""

    def __init__(self, app: App, server: Any = Connection) -> None:
        config = config_of(app)
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"Tue, 24 Nov 2026 10:00:00 GMT")]
        self.transport = Transport()
        self.connection: Any = server(config, self.state, {})
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)

    @property
    def out(self) -> bytes:
        return bytes(self.transport.out)

    @property
    def ended(self) -> bool:
        return self.transport.closing or self.transport.half_closed

    async def send(self, *pieces: bytes) -> Caller:
        """As far as it is read; then whatever can happen without more, happens."""
        for piece in pieces:
            for _ in range(200):
                if not self.transport.paused or self.ended:
                    break
                await asyncio.sleep(0)
            if self.transport.closing or self.transport.paused:
                break
            self.connection.data_received(piece)
            await asyncio.sleep(0)
        await self.settled()
        return self

    async def settled(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    async def leave(self) -> None:
        if not self.transport.closing:
            self.transport.close()
        await self.settled()
        for _ in range(1000):
            if not self.state.tasks:
                break
            await asyncio.sleep(0)
        assert self.state.tasks == set()
        assert self.state.connections == set()


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer, as h11 reads it."""

    status: int
    body: bytes
    interim: tuple[int, ...] = ()
    headers: dict[bytes, bytes] = field(default_factory=dict, compare=False)


def heard(out: bytes, methods: list[bytes], *, ended: bool) -> list[Heard]:
    """Raises `h11.RemoteProtocolError` for what is no answer, and where one has no end."""
    answers = []
    for method in methods:
        if not out:
            break
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(out)
        if ended:
            client.receive_data(b"")
        status, body, interim, headers = 0, b"", [], {}
        while True:
            event = client.next_event()
            assert event is not h11.NEED_DATA, "an answer without an end"
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
        answers.append(Heard(status, body, tuple(interim), headers))
        out = client.trailing_data[0]
    assert out == b"", "more answers than requests"
    return answers


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The path chooses: `/counted`, `/streamed`, `/unread`, `/empty`; what arrived comes back."""
    path, body, more = scope["path"], b"", scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    said = b"%s %s?%s %s" % (scope["method"].encode(), path.encode(), scope["query_string"], body)
    headers = [(b"content-type", b"text/plain")]
    if path == "/empty":
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})
    elif path == "/streamed":
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for at in range(0, len(said), 7):
            piece = said[at : at + 7]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        headers.append((b"content-length", b"%d" % len(said)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})
