"""One request and its answer, as an ASGI app sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from app.server.heads import written

if TYPE_CHECKING:
    from app.server.heads import AnswerHead, Pair

Message = MutableMapping[str, Any]
App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]

log = structlog.get_logger()

UNREAD_BYTES: Final = 64 * 1024
"""Of a body that nobody has asked for: with more, nothing is taken from the connection."""

JOINED_BYTES: Final = 16 * 1024
"""Up to this size copying is cheaper than a vector."""

CANCEL_WHEN_GONE: Final = "server.cancel_when_gone"
"""Where a scope holds `Exchange.cancel_when_gone`: an extension of this server's."""

_BODILESS: Final = frozenset({204, 304})
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_DISCONNECT: Final = {"type": "http.disconnect"}
_FAULT: Final = (500, ((b"content-length", b"0"), (b"connection", b"close")))


class Line(Protocol):
    """The connection that an exchange is on."""

    choked: bool
    """More was written than the caller takes: `drained` before the next piece."""

    @property
    def always(self) -> bytes:
        """Header lines of every answer."""
        ...

    def write(self, *pieces: bytes) -> None: ...

    async def drained(self) -> None:
        """Returns when the caller has taken most of what was written, or is gone."""
        ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def cut(self, exchange: Exchange) -> None:
        """Close though the answer has no end, so that the caller sees that it has none."""
        ...

    def answered(self, exchange: Exchange) -> None: ...


class Exchange:
    """Its connection feeds it, and tells it when the caller is gone."""

    __slots__ = (
        "_awaits_continue",
        "_bodiless",
        "_body",
        "_cancel_with",
        "_head",
        "_is_head_request",
        "_line",
        "_size",
        "_started",
        "_status",
        "_task",
        "_told_end",
        "_waiters",
        "_written",
        "chunks",
        "closes",
        "complete",
        "ended",
        "gone",
        "scope",
    )

    def __init__(
        self,
        line: Line,
        scope: dict[str, Any],
        *,
        chunks: bool,
        closes: bool,
        awaits_continue: bool,
    ) -> None:
        self.scope = scope
        self.chunks = chunks
        """The caller speaks HTTP/1.1."""
        self.closes = closes
        """He wants no other answer on this connection."""
        self.gone = False
        self.ended = False
        """His body is here to its end."""
        self.complete = False
        """The answer has left."""
        self._line = line
        self._task: asyncio.Task[None] | None = None
        self._cancel_with: str | None = None
        scope[CANCEL_WHEN_GONE] = self.cancel_when_gone
        self._is_head_request = scope["method"] == "HEAD"
        self._bodiless = False
        self._awaits_continue = awaits_continue
        self._body: list[bytes] = []
        self._size = 0
        self._told_end = False
        self._waiters: list[asyncio.Future[None]] = []
        self._status = 0
        self._started: tuple[Pair, ...] | list[Pair] | None = None
        self._head: AnswerHead | None = None
        self._written = 0

    def start(
        self, loop: asyncio.AbstractEventLoop, app: App, tasks: set[asyncio.Task[None]]
    ) -> None:
        """In a task of its own, which is among `tasks` until it ends."""
        self._task = loop.create_task(self._run(app, tasks))
        tasks.add(self._task)

    def mind(self, tasks: set[asyncio.Task[None]]) -> None:
        """For a task that may be cancelled before its first step: it hears nothing of that."""

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if self._task is task:
                self._task = None
                if not self.gone:
                    self._fault()

        if self._task is not None:
            self._task.add_done_callback(ended)

    async def _run(self, app: App, tasks: set[asyncio.Task[None]]) -> None:
        """Whatever the app does: the caller gets a whole answer, or one that visibly is not."""
        # It refers to us.
        scope, self.scope = self.scope, {}
        try:
            await app(scope, self.receive, self.send)
        except Exception as fault:  # noqa: BLE001 - the last line
            # Not its message, which may quote what the caller sent.
            log.error("server.app_failed", error=type(fault).__qualname__)  # noqa: TRY400
        finally:
            if self._task is not None:
                tasks.discard(self._task)
                self._task = None
            if not (self.complete or self.gone):
                self._fault()

    @property
    def begun(self) -> bool:
        """Some of the answer has left."""
        return self._head is not None

    @property
    def delimited(self) -> bool:
        """The answer says where its body ends: it is not where the connection does."""
        head = self._head
        return head is None or head.chunked or head.length is not None or self._bodiless

    def _fault(self) -> None:
        if self._head is not None:
            self._line.cut(self)
            return
        self._status, self._started = _FAULT
        self._begin(b"", last=True)

    # ------------------------------------------------------------ what arrives

    async def receive(self) -> Message:
        if self._awaits_continue:
            self._awaits_continue = False
            if self._head is None and not self.gone:
                self._line.write(_CONTINUE)
        while not (self._body or self.gone or self.complete or (self.ended and not self._told_end)):
            self._line.resume_reading()
            # One listens for the caller's leaving while another reads: both are woken.
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        if self.gone or self.complete:
            return _DISCONNECT.copy()
        pieces = self._body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._body, self._size = [], 0
        self._told_end = self.ended
        return {"type": "http.request", "body": body, "more_body": not self.ended}

    def feed(self, data: bytes) -> None:
        if self.complete:
            return
        self._body.append(data)
        self._size += len(data)
        if self._size > UNREAD_BYTES:
            self._line.pause_reading()
        self.wake()

    def end(self) -> None:
        self.ended = True
        if self._waiters:
            self.wake()

    def cancel_when_gone(self, message: str | None) -> None:
        """From now on the task is cancelled with `message` when the caller goes; None: not."""
        self._cancel_with = message
        if self.gone:
            self._cancel()

    def leave(self) -> None:
        """The caller is gone."""
        self.gone = True
        if self._task is None:
            self.scope = {}
        self.wake()
        self._cancel()

    def _cancel(self) -> None:
        if self._cancel_with is not None and self._task is not None:
            self._task.cancel(self._cancel_with)

    def wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------- what leaves

    async def send(self, message: Message) -> None:
        """The head waits for the first piece of the body, and both leave at once."""
        kind = message["type"]
        if kind == "http.response.start":
            if self._started is not None:
                raise RuntimeError("an answer begins once")
            self._status, self._started = message["status"], message.get("headers", ())
            return
        if kind != "http.response.body":
            raise RuntimeError(f"{kind} is no part of an answer")
        if self._started is None or self.complete:
            raise RuntimeError("an answer's body comes after its head, and before its end")
        if self._line.choked:
            await self._line.drained()
        if self.gone:
            return
        body: bytes = message.get("body", b"")
        last = not message.get("more_body", False)
        if self._head is None:
            self._begin(body, last=last)
        else:
            self._go_on(self._head, body, b"", last=last)

    def _begin(self, body: bytes, *, last: bool) -> None:
        assert self._started is not None
        self._bodiless = self._is_head_request or self._status in _BODILESS
        head = self._head = written(
            self._status,
            self._started,
            always=self._line.always,
            bodiless=self._bodiless,
            chunks=self.chunks,
            # Who was not told to send his body may not send it: then the next request would be
            # taken for it.
            closes=self.closes or (self._awaits_continue and not self.ended),
        )
        self.closes = head.closes
        self._go_on(head, body, head.data, last=last)

    def _go_on(self, head: AnswerHead, body: bytes, before: bytes, *, last: bool) -> None:
        line = self._line
        if self._bodiless:
            if before:
                line.write(before)
        elif head.chunked:
            line.write(*_chunk(before, body, last=last))
        else:
            self._written += len(body)
            if head.length is not None and (
                self._written > head.length or (last and self._written < head.length)
            ):
                if before:
                    # Nothing has left: the caller can still hear that this is a fault.
                    self._head, self._written = None, 0
                raise RuntimeError("the body is not as long as was announced")
            if len(body) <= JOINED_BYTES:
                line.write(before + body)
            else:
                line.write(*((before, body) if before else (body,)))
        if last:
            self.complete = True
            if self._waiters:
                self.wake()
            line.answered(self)


def _chunk(before: bytes, body: bytes, *, last: bool) -> tuple[bytes, ...]:
    end = b"0\r\n\r\n" if last else b""
    if not body:
        return (before + end,)
    opening = before + b"%x\r\n" % len(body)
    if len(body) <= JOINED_BYTES:
        return (b"".join((opening, body, b"\r\n", end)),)
    return opening, body, b"\r\n" + end
