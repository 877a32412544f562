"""One TCP or TLS connection to Dataverse: one exchange at a time, both ways under backpressure."""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

from app.dataverse.alarm import Alarm
from app.dataverse.answer import Answer
from app.dataverse.failures import ExchangeFailed, FailureCode, Stage
from app.dataverse.framing import AnswerReader, MalformedAnswer
from app.dataverse.wire import WRITE_BYTES, body_on_the_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.dataverse.message import UpstreamRequest

LOOK_AFTER_REST_S: Final = 0.5
"""A connection that rested longer is looked at before it is used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds."""

    connect_s: float = 10.0
    """Name look-up, TCP, a proxy's CONNECT and TLS together."""
    idle_s: float = 120.0
    """No byte moves while a body is under way."""
    total_s: float = 3600.0
    """An exchange from its first byte to its last. A reader that takes for ever ends here."""
    keepalive_s: float = 50.0
    """An unused connection is closed before the front ends on the way would (60 s and more)."""
    lifetime_s: float = 600.0
    """Then a connection is not used again, so that changes in DNS are followed."""


class Owner(Protocol):
    """Whoever lends connections out."""

    def given_back(self, connection: Connection) -> None:
        """The exchange is over, and the connection may carry another one."""
        ...

    def lost(self, connection: Connection) -> None:
        """The connection cannot be used any more. Told once."""
        ...


class Connection(asyncio.BufferedProtocol):
    """Carries one exchange after another. `host` is for messages."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        host: str,
        patience: Patience,
        read_buffer: memoryview,
        close_delimited: bool = False,
    ) -> None:
        self.loop = loop
        self.closed = False
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the socket is closed too."""
        self._owner = owner
        self._host = host
        self._patience = patience
        # One for all connections of a client: the loop asks for it and fills it in one step.
        self._read_buffer = read_buffer
        self._close_delimited = close_delimited
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._reader: AnswerReader | None = None
        self._stage = Stage.CONNECTING
        self._exchanges = 0
        self._uploaded = True
        self._reading_paused = False
        self._writing_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._retire_at = loop.time() + patience.lifetime_s
        self._rested_since = loop.time()
        self._alarm = Alarm(loop, self._out_of_time)
        self._end_due = math.inf

    # ------------------------------------------------------------ exchanges

    def is_fit(self) -> bool:
        """Whether the next exchange may go here, as far as can be told without sending."""
        if self.closed or self._transport is None or self._transport.is_closing():
            return False
        now = self.loop.time()
        if now >= self._retire_at:
            return False
        if now - self._rested_since < LOOK_AFTER_REST_S:
            return True
        # Something to read on a connection at rest is its end, which the loop has not come to.
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    async def exchange(self, request: UpstreamRequest, *, head: bytes, timeout_s: float) -> Answer:
        """Send `head` and the request's body; return when the answer's head is there.

        `timeout_s` runs from here, or from the last byte where the body takes its time.
        Whatever goes wrong, a cancellation included, closes the connection.
        """
        body = request.body
        self._stage = Stage.CONNECTING
        if self.closed or self._transport is None:
            raise self._failure("upstream-broke", "closed the connection before it was used")
        assert self._answer is None
        answer = self._answer = Answer(self)
        self._reader = AnswerReader(
            head_only=request.method == "HEAD", close_delimited=self._close_delimited
        )
        self._stage = Stage.SENDING
        now = self.loop.time()
        self._end_due = now + self._patience.total_s
        try:
            if request.content_length == 0:
                body = None  # a stream of nothing: there is nothing to wait for
            if body is None or (isinstance(body, bytes) and len(body) <= WRITE_BYTES):
                self._alarm.set(now + timeout_s)
                self._transport.write(head if body is None else head + body)
                self._stage = Stage.WAITING
                while not answer.has_head:
                    await answer.changed()
            else:
                self._transport.write(head)
                await self._send_streaming(body, request.content_length, answer, timeout_s)
        except BaseException:
            # Not `abort`: the answer may have ended, and the connection be somebody else's.
            answer.cut()
            raise
        return answer

    async def _send_streaming(
        self,
        body: bytes | AsyncIterator[bytes],
        length: int | None,
        answer: Answer,
        timeout_s: float,
    ) -> None:
        """Upload and listen: Dataverse may refuse a body before its end."""
        self._uploaded = whole = False
        self._alarm.set(self.loop.time() + self._patience.idle_s)

        def all_is_sent() -> None:
            nonlocal whole
            whole = True
            self._all_is_sent(timeout_s)

        upload = self.loop.create_task(self._upload(body, length, all_is_sent))
        upload.add_done_callback(lambda _: answer.wake())
        try:
            while True:
                if upload.done():
                    upload.result()
                if answer.has_head and (whole or answer.status >= 400):
                    return
                await answer.changed()
        finally:
            if not upload.done():
                upload.cancel()
                await asyncio.gather(upload, return_exceptions=True)

    async def _upload(
        self,
        body: bytes | AsyncIterator[bytes],
        length: int | None,
        all_is_sent: Callable[[], None],
    ) -> None:
        """Whoever has got all that was announced may answer, though the body's reader learns only
        with his next look that this was its end.
        """
        sent = 0
        async with contextlib.aclosing(body_on_the_wire(body, length)) as pieces:
            async for piece in pieces:
                self._write(piece)
                sent += len(piece)
                if sent == length:
                    all_is_sent()
                await self._drained()
        if length is None:
            all_is_sent()

    def _all_is_sent(self, timeout_s: float) -> None:
        self._uploaded = True
        self._stage = max(self._stage, Stage.WAITING)
        self._alarm.set(self.loop.time() + timeout_s)

    def _write(self, data: bytes | memoryview) -> None:
        if self.closed or self._transport is None:
            raise self._failure("upstream-broke", "closed the connection during an upload")
        self._transport.write(data)

    async def _drained(self) -> None:
        if self._writing_paused:
            self._writable = self.loop.create_future()
            await self._writable
        if not self._uploaded:
            self._alarm.set(self.loop.time() + self._patience.idle_s)

    def resume_answer(self) -> None:
        """The reader has caught up."""
        if self._reading_paused and not self.closed and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
            self._alarm.set(self._idle_due())

    def abort(self) -> None:
        """Close at once; what is under way fails as broken off."""
        self._fail("upstream-broke", "was cut off by the broker")

    # ------------------------------------------------- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Neither uvloop's transports nor our own are of a common class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=2 * WRITE_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        answer, reader = self._answer, self._reader
        if self.closed:
            return
        if answer is None or reader is None:
            # Nobody asked. To keep it would be to take it for the next answer.
            self._close()
            return
        self._stage = Stage.ANSWERING
        try:
            body = reader.feed(bytes(self._read_buffer[:nbytes]))
        except MalformedAnswer as e:
            self._fail("upstream-malformed", f"sent an answer that cannot be passed on: {e}")
            return
        if reader.status is None:
            return
        if not answer.has_head:
            answer.begin(reader.status, reader.headers, reader.body_bytes)
        if body and answer.push(body):
            self._pause_reading()
        if reader.complete:
            self._finish(answer, reader)
        elif self._uploaded:
            self._alarm.set(self._end_due if self._reading_paused else self._idle_due())

    def eof_received(self) -> None:
        answer, reader = self._answer, self._reader
        if answer is not None and reader is not None and answer.has_head and reader.end():
            self._finish(answer, reader)
        else:
            self._fail("upstream-broke", self._broke())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - says no more
        self._transport = None
        self._fail("upstream-broke", self._broke())
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # ------------------------------------------------------------- the ends

    def _finish(self, answer: Answer, reader: AnswerReader) -> None:
        if not self._uploaded and answer.status < 400:
            self._fail("upstream-malformed", "answered before it had the whole request")
            return
        self._answer = self._reader = None
        answer.end()
        self._exchanges += 1
        self._rested_since = now = self.loop.time()
        if not reader.reusable or not self._uploaded or now >= self._retire_at or self.closed:
            self._close()
            return
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        self._alarm.set(now + self._patience.keepalive_s)
        self._owner.given_back(self)

    def _fail(self, code: FailureCode, what: str) -> None:
        answer = self._answer
        if answer is not None:
            self._answer = self._reader = None
            answer.fail(self._failure(code, what))
        self._close()

    def _failure(self, code: FailureCode, what: str) -> ExchangeFailed:
        return ExchangeFailed(
            code, f"{self._host} {what}", stage=self._stage, reused=self._exchanges > 0
        )

    def _broke(self) -> str:
        if self._stage is Stage.ANSWERING:
            return "closed the connection in the middle of its answer"
        return "closed the connection without an answer"

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._alarm.stop()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._transport is not None:
            # Nothing is left to be said: what waits to be written belongs to a dead exchange.
            self._transport.abort()
        self._owner.lost(self)

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self.closed and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    # ------------------------------------------------------------- the clock

    def _idle_due(self) -> float:
        return min(self.loop.time() + self._patience.idle_s, self._end_due)

    def _out_of_time(self) -> None:
        if self._answer is None:
            # Unused for long enough.
            self._close()
        elif self.loop.time() >= self._end_due:
            self._fail("upstream-timeout", "was given up: the whole exchange took too long")
        elif self._answer.has_head:
            self._fail("upstream-timeout", "fell silent in the middle of its answer")
        elif self._uploaded:
            self._fail("upstream-timeout", "gave no answer in time")
        else:
            self._fail("upstream-timeout", "took no more of the request's body in time")
