"""The proxied Web API as a plain ASGI app: what arrives for `Broker.forward`, what leaves.

A FastAPI route would cost more than everything that the broker does here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from app.errors import BrokerError, Unreadable
from app.path.recording import HUNG_UP, AnswerCut, CallerLeft
from app.server.exchange import CANCEL_WHEN_GONE
from app.web.asgi import CallerGone, declared_length, head_of, read_body, send_answer
from app.web.dispatch import ROUTE_KEY, Route
from app.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from app.path.delivering import Reply
    from app.path.ports import Incoming
    from app.web.asgi import Answer, Headers, Receive, RequestHead, Scope, Send
    from app.web.dispatch import Refusals

BODY_WITHIN_S = 120.0
"""How long a caller may take to send a body that is read whole."""
PIECE_WITHIN_S = 60.0
"""How long a caller may pause in a body that streams."""


class Forwarder(Protocol):
    async def forward(self, incoming: Incoming, reply: Reply) -> None: ...


class Proxy:
    """The ASGI app; the dispatcher leaves environment and path in the scope."""

    def __init__(self, forwarder: Forwarder, *, refusals: Refusals) -> None:
        self._forwarder = forwarder
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = head_of(scope)
        try:
            arrived = Arrived(head, scope[ROUTE_KEY], receive)
        except BrokerError as error:
            await self._refusals.refuse(head, error)
            await send_answer(send, _problem(error, head))
            return
        # Only when nothing of the body is to come: until then its reader hears of it.
        cancel_when_gone = scope.get(CANCEL_WHEN_GONE, _no_one_goes)
        if arrived.has_body:
            arrived.listening = lambda: cancel_when_gone(HUNG_UP)
        else:
            cancel_when_gone(HUNG_UP)
        try:
            await self._forwarder.forward(arrived, Leaving(send))
        except BrokerError as error:
            cancel_when_gone(None)
            await send_answer(send, _problem(error, head))
        except (CallerLeft, AnswerCut):
            # Returning in mid-answer makes the server close the connection: whoever is there
            # still cannot take what he got for the whole.
            return
        except asyncio.CancelledError as cancelled:
            if cancelled.args != (HUNG_UP,):
                raise
            # He hung up while the end of his request was being recorded, as it still will be.
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        finally:
            cancel_when_gone(None)


def _no_one_goes(message: str | None) -> None:
    """Of a server that does not tell."""
    del message


def _problem(error: BrokerError, head: RequestHead) -> Answer:
    """With Dataverse's own form of an error beside it: that is what its clients show."""
    error.extra["error"] = {"code": error.code, "message": error.detail}
    return problem(error, request_id=head.request_id)


class Arrived:
    """An `Incoming`."""

    def __init__(self, head: RequestHead, route: Route, receive: Receive) -> None:
        self.head = head
        try:
            self.environment = (
                None if route.environment is None else route.environment.decode("ascii")
            )
            version, slash, rest = route.rest.partition(b"/")
            self.version = version.decode("ascii")
        except UnicodeDecodeError:
            raise Unreadable("bad-path", "the path has a byte that must be encoded") from None
        del slash
        self.target = rest + (b"?" + head.query if head.query else b"")
        self.body_bytes = declared_length(head)
        chunked = any(name == b"transfer-encoding" for name, _ in head.headers)
        self.has_body = chunked or bool(self.body_bytes)
        self._receive = receive
        self._taken: bytes | None = None
        self.listening: Callable[[], None] = lambda: None
        """Called when the whole body has been taken in, so that hanging up can be heard."""

    async def body(self, limit: int) -> bytes:
        if self._taken is None:
            try:
                self._taken = await read_body(
                    self.head, self._receive, limit=limit, within_s=BODY_WITHIN_S
                )
            except CallerGone:
                raise CallerLeft from None
            self.listening()
        return self._taken

    def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes: nothing more is taken in than the other side takes.

        Raises `Unreadable` at once where its declared length is above `limit`.
        """
        if self.body_bytes is not None and self.body_bytes > limit:
            raise Unreadable("body-too-large", f"the file is larger than {limit} bytes")
        return self._pieces(limit)

    async def _pieces(self, limit: int) -> AsyncIterator[bytes]:
        size = 0
        while True:
            try:
                async with asyncio.timeout(PIECE_WITHIN_S):
                    message = await self._receive()
            except TimeoutError:
                raise Unreadable("body-too-slow", "the file stopped coming") from None
            if message["type"] == "http.disconnect":
                raise CallerLeft
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise Unreadable("body-too-large", f"the file is larger than {limit} bytes")
            if piece:
                yield piece
            if not message.get("more_body", False):
                self.listening()
                return


class Leaving:
    """A `Reply`."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def begin(self, status: int, headers: Headers) -> Awaitable[None]:
        return self._send({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, piece: bytes, *, last: bool) -> Awaitable[None]:
        return self._send({"type": "http.response.body", "body": piece, "more_body": not last})
