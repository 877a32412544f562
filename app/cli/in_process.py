"""A request's bytes through the server's own parser to an ASGI app, and its answer; no socket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httptools

from app.policy.case_outcome import Seen
from app.server.heads import scope_of

if TYPE_CHECKING:
    from app.web.asgi import App, Message


@dataclass(slots=True)
class _Parsed:
    """What the server's own parser makes of the bytes."""

    url: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body


async def ask(app: App, request: bytes) -> Seen:
    parsed = _Parsed()
    parser = httptools.HttpRequestParser(parsed)
    try:
        parser.feed_data(request)
    except httptools.HttpParserError:
        # The server answers such a request itself, before there is an application.
        return Seen(400, (), b"")
    scope = scope_of(
        parser.get_method().decode("ascii"),
        parsed.url,
        parsed.headers,
        version="1.1",
        scheme="https",
        client=("127.0.0.1", 0),
        server=None,
        state={},
    )
    body, answer = [parsed.body], _Collected()

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await asyncio.Event().wait()  # the caller stays
        raise AssertionError

    await app(scope, receive, answer)
    return Seen(answer.status, tuple(answer.headers), answer.body)


@dataclass(slots=True)
class _Collected:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers += [
                (n.decode("latin-1"), v.decode("latin-1")) for n, v in message["headers"]
            ]
        else:
            self.body += message.get("body", b"")
