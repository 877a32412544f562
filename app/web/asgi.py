"""The few pieces of ASGI that the hot addresses need: a head, a body, a whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from app.audit.record import RecordIds
from app.errors import Unreadable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

HEAD_KEY: Final = "broker.head"
"""Where the dispatcher leaves the head in the scope, so that a request has one id only."""


class CallerGone(Exception):
    """The caller closed the connection before its request was whole."""


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived before any body, byte for byte; names of headers in lower case.

    A struct, since one is built for every request: a frozen dataclass takes six times as long.
    """

    request_id: str
    method: str
    path: bytes
    """Still percent-encoded, without the query."""
    query: bytes
    """Without the question mark; empty where there is none."""
    headers: Headers
    peer: str | None
    """The address at the other end of the connection: a proxy's, where there is one."""
    secure: bool = False

    def __repr__(self) -> str:
        # Credentials stand in the headers, and perhaps (against every advice) in the query.
        return f"RequestHead({self.request_id}, {self.method} {self.path!r})"

    @property
    def target(self) -> bytes:
        return self.path + b"?" + self.query if self.query else self.path

    def values(self, name: bytes) -> tuple[bytes, ...]:
        return tuple(value for key, value in self.headers if key == name)

    def single(self, name: bytes) -> bytes | None:
        """The one value of a header that must not be repeated.

        Raises `Unreadable` where it is: two readers could pick different ones.
        """
        found: bytes | None = None
        for key, value in self.headers:
            if key == name:
                if found is not None:
                    raise Unreadable(
                        "duplicate-header", f"the header {name.decode('latin-1')} is given twice"
                    )
                found = value
        return found


_IDS: Final = RecordIds()


def new_request_id() -> str:
    """A UUIDv7 (RFC 9562, 5.7) that is greater than the one before. It names the record too."""
    return _IDS.next(datetime.now(UTC))


def head_of(scope: Scope) -> RequestHead:
    """The head that the dispatcher built, or a new one where an app runs without it."""
    head: RequestHead | None = scope.get(HEAD_KEY)
    if head is None:
        client = scope.get("client")
        head = RequestHead(
            request_id=new_request_id(),
            method=scope["method"],
            path=scope["raw_path"],
            query=scope["query_string"],
            headers=tuple(scope["headers"]),
            peer=client[0] if client else None,
            secure=scope["scheme"] == "https",
        )
        scope[HEAD_KEY] = head
    return head


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, ready to be sent. Its body may hold a token."""

    status: int
    headers: Headers = field(repr=False)
    """Content-Length included."""
    body: bytes = field(repr=False)


async def send_answer(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


def declared_length(head: RequestHead) -> int | None:
    """Content-Length, where it stands; the HTTP server has refused one that contradicts."""
    value = head.single(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Unreadable("bad-header", "Content-Length is not a number")
    return int(value)


def _too_large(limit: int) -> Unreadable:
    return Unreadable("body-too-large", f"the body is larger than {limit} bytes")


def has_body(head: RequestHead) -> bool:
    """Whether one was announced: in HTTP/1.1 there is none otherwise (RFC 9112, 6.3)."""
    return any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in head.headers
    )


async def read_body(head: RequestHead, receive: Receive, *, limit: int, within_s: float) -> bytes:
    """The whole body.

    Raises `Unreadable` where it is longer than `limit`, before reading where its length is
    declared, or not here `within_s`; `CallerGone` where the connection closed.
    """
    if not has_body(head):
        return b""
    length = declared_length(head)
    if length is not None and length > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(within_s):
            return await _read(receive, limit)
    except TimeoutError as timeout:
        raise Unreadable(
            "body-too-slow", f"the body did not arrive within {within_s:g} seconds"
        ) from timeout


async def _read(receive: Receive, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
