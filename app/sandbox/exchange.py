"""One HTTP exchange, as raw ASGI gives it: the request read whole, the answer sent whole."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CUT = "sandbox.cut"
"""The ASGI extension with which the sandbox's own servers let an application reset."""

WRITE = "sandbox.write"
"""The one with which they let it write bytes past the framing that was promised."""

_BODY_BYTES_MAX = 1024 * 1024


class ConnectionCut(Exception):
    """The exchange ends without an answer, and no server is there to cut the connection."""


class BodyTooLong(Exception):
    """More than anybody sends to a token endpoint or a vault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer with its whole body. Bodies hold tokens, so no `repr` shows one."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(
    content: Any, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    body = json.dumps(content, separators=(",", ":")).encode()
    return Answer(status=status, body=body, headers=headers)


def header(scope: Scope, name: str) -> str | None:
    """The first header of that name; `name` in lower case."""
    wanted = name.encode("ascii")
    for key, value in scope["headers"]:
        if key == wanted:
            return str(value.decode("latin-1"))
    return None


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises `BodyTooLong`; a caller that goes away leaves what he sent."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > _BODY_BYTES_MAX:
            raise BodyTooLong
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    return b"".join(chunks)


async def respond(send: Send, answer: Answer) -> None:
    headers = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (b"content-length", str(len(answer.body)).encode("ascii")),
        *((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def cut(scope: Scope, receive: Receive) -> None:
    """Reset the connection: no byte of an answer leaves.

    Raises `ConnectionCut` where the server has no such means, in tests without sockets.
    """
    abort = scope.get("extensions", {}).get(CUT)
    if abort is None:
        raise ConnectionCut
    abort()
    # A server that has not yet noticed would answer 500 for an application that
    # returns without an answer.
    while (await receive())["type"] != "http.disconnect":
        pass


def write_raw(scope: Scope, data: bytes) -> None:
    """Put bytes on the wire as they are; before the last body message, which ends the exchange.

    Raises `ConnectionCut` where the server has no such means, in tests without sockets.
    """
    write = scope.get("extensions", {}).get(WRITE)
    if write is None:
        raise ConnectionCut
    write(data)
