"""Bytes in and out of ASGI, the wrong ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.faults import Break
from app.sandbox.exchange import cut

if TYPE_CHECKING:
    from app.sandbox.dataverse.messages import Answer
    from app.sandbox.exchange import Receive, Scope, Send


class Gone(Exception):
    """The client went away before its request was complete: nothing is done."""


async def read_body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _head(answer: Answer) -> list[tuple[bytes, bytes]]:
    return [(k.encode("latin-1"), v.encode("latin-1", "replace")) for k, v in answer.headers]


async def send_answer(send: Send, answer: Answer) -> None:
    headers = _head(answer)
    if answer.status not in {204, 304}:
        headers.append((b"Content-Length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def send_broken(
    scope: Scope, receive: Receive, send: Send, answer: Answer, how: Break
) -> None:
    headers, body, status = _head(answer), answer.body, answer.status
    length = str(len(body)).encode()
    match how:
        case Break.RESET:
            await cut(scope, receive)
            return
        case Break.HALF:
            headers.append((b"Content-Length", length))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            half = body[: len(body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            await cut(scope, receive)
            return
        case Break.TWO_LENGTHS:
            headers += [(b"Content-Length", length), (b"Content-Length", length + b"0")]
        case Break.BOTH:
            headers += [(b"Content-Length", length), (b"Transfer-Encoding", b"chunked")]
        case Break.LONG_HEADER:
            headers += [(b"Content-Length", length), (b"x-ms-long", b"x" * 100_000)]
        case Break.REDIRECT:
            status, body = 302, b""
            headers += [(b"Location", b"https://elsewhere.example/"), (b"Content-Length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
