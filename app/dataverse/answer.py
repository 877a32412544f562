"""An answer on its way: the head as values, the body piece by piece under backpressure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from app.dataverse.failures import ExchangeFailed
    from app.dataverse.message import Headers

READ_BYTES: Final = 48 * 1024
"""Read from the socket at once, at most. A stream that waits for its caller holds one such piece
here, one in hand, and one more than the caller's transport wants."""

TLS_READ_BYTES: Final = 20 * 1024
"""The same behind TLS, where a record has 16 KiB and each connection keeps as much again as is
read at once. A stream in flight has 251 KiB with it, 263 with 24 KiB, and costs the same."""

UNREAD_HIGH_BYTES: Final = 32 * 1024
"""More than this waiting to be taken stops the reading: 80 KiB at most are held for a stream."""

UNREAD_LOW_BYTES: Final = 16 * 1024

WHOLE_BYTES: Final = 224 * 1024
"""A body that says to be no longer is read to its end, however slow its reader is."""


class Source(Protocol):
    """The connection, as far as an answer needs it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def resume_answer(self) -> None: ...

    def abort(self) -> None: ...


class Answer:
    """One task reads it: `status` and `headers`, then `chunks()`, and always `aclose()`.

    The other half is the connection's: `begin`, `push`, `end`, `fail`.
    """

    __slots__ = (
        "_ended",
        "_failure",
        "_high_bytes",
        "_is_long",
        "_pieces",
        "_source",
        "_unread_bytes",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, source: Source) -> None:
        self.status = 0
        self.headers: Headers = ()
        self._source: Source | None = source
        self._pieces: deque[bytes] = deque()
        self._unread_bytes = 0
        self._high_bytes = UNREAD_HIGH_BYTES
        self._is_long = False
        self._ended = False
        self._failure: ExchangeFailed | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"

    @property
    def has_head(self) -> bool:
        return self.status != 0

    @property
    def body_has_arrived(self) -> bool:
        """Whether all of `chunks()` is here, so that it will not wait."""
        return self._ended

    async def whole(self) -> bytes | None:
        """What is left of the body, taken at once; None where that is too long to wait for."""
        while not self._ended:
            if self._failure is not None:
                raise self._failure
            if self._source is None or self._is_long or self._unread_bytes > self._high_bytes:
                return None
            await self._wait()
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces.popleft()
        whole = b"".join(pieces)
        pieces.clear()
        return whole

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        pieces = self._pieces
        while not pieces:
            # What came before a failure is handed out first.
            if self._failure is not None:
                raise self._failure
            if self._source is None:
                raise StopAsyncIteration
            await self._wait()
        piece = pieces.popleft()
        self._unread_bytes -= len(piece)
        if self._source is not None and self._unread_bytes <= UNREAD_LOW_BYTES:
            self._source.resume_answer()
        return piece

    async def aclose(self) -> None:
        self.cut()

    def cut(self) -> None:
        """Take no more. A connection that is still at it is closed."""
        source, self._source = self._source, None
        self._pieces.clear()
        if source is not None:
            source.abort()

    async def changed(self) -> None:
        """Wait for the connection's next word. Raises `ExchangeFailed` when that is its last."""
        if self._failure is None:
            await self._wait()
        if self._failure is not None:
            raise self._failure

    async def _wait(self) -> None:
        assert self._source is not None
        waiter = self._waiter = self._source.loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    # ----------------------------------------------------- the connection's half

    def begin(self, status: int, headers: Headers, body_bytes: int | None) -> None:
        """`body_bytes` None: the body's end will tell."""
        self.status = status
        self.headers = headers
        if body_bytes is not None:
            most = WHOLE_BYTES
            if body_bytes > UNREAD_HIGH_BYTES and _is_packed(headers):
                # It grows by a lot: only a little of it is waited for.
                most = UNREAD_HIGH_BYTES
            self._is_long = body_bytes > most
            if not self._is_long:
                self._high_bytes = most
        self.wake()

    def push(self, piece: bytes) -> bool:
        """Whether so much is waiting now that reading should stop."""
        self._pieces.append(piece)
        self._unread_bytes += len(piece)
        self.wake()
        return self._unread_bytes > self._high_bytes

    def end(self) -> None:
        self._ended = True
        self._source = None
        self.wake()

    def fail(self, failure: ExchangeFailed) -> None:
        self._failure = failure
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _is_packed(headers: Headers) -> bool:
    return any(name == b"content-encoding" for name, _ in headers)
