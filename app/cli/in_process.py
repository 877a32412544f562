"""A request's bytes through the server's own parser to an ASGI app, and its answer; no socket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httptools

from app.cli.connections import PARSED_BYTES_MAX
from app.policy.case_outcome import Seen

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
        url = httptools.parse_url(parsed.url[:PARSED_BYTES_MAX])
        path = url.path.decode("ascii")
    except (httptools.HttpParserError, UnicodeDecodeError):
        # The server answers such a request itself, before there is an application.
        return Seen(400, (), b"Invalid HTTP request received.")
    scope = {
        "type": "http",
        "method": parser.get_method().decode("ascii"),
        "path": path,
        "raw_path": url.path,
        "query_string": url.query or b"",
        "headers": parsed.headers,
        "client": ("127.0.0.1", 0),
        "scheme": "https",
    }
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
