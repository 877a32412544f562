from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from app.web.asgi import App, Message

    Pairs = Iterable[tuple[bytes, bytes]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Seen:
    """What a caller sees of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool

    def json(self) -> Any:
        return json.loads(self.body)


Call = Callable[..., Awaitable[Seen]]


@pytest.fixture
def call() -> Call:
    """Sends one request through an ASGI app, byte for byte, without a server."""

    async def send_request(
        app: App,
        target: bytes = b"/",
        *,
        method: str = "GET",
        headers: Pairs = (),
        body: Iterable[bytes] = (b"",),
        peer: str | None = "10.0.0.7",
    ) -> Seen:
        path, _, query = target.partition(b"?")
        pieces = list(body)
        pairs = list(headers)
        if any(pieces) and not any(name == b"content-length" for name, _ in pairs):
            pairs.append((b"transfer-encoding", b"chunked"))
        sent: list[Message] = []

        async def receive() -> Message:
            if not pieces:
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path.decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": pairs,
            "client": (peer, 40000) if peer else None,
            "server": ("127.0.0.1", 8080),
            "state": {},
        }
        await app(scope, receive, send)
        nothing: Message = {"status": 0, "headers": ()}
        start = sent[0] if sent else nothing
        names = [name.decode("latin-1") for name, _ in start["headers"]]
        assert len(names) == len(set(names)), f"a header stands twice: {names}"
        return Seen(
            status=start["status"],
            headers={n.decode("latin-1"): v.decode("latin-1") for n, v in start["headers"]},
            body=b"".join(message.get("body", b"") for message in sent[1:]),
            complete=len(sent) > 1 and not sent[-1].get("more_body", False),
        )

    return send_request
