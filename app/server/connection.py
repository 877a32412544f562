"""One connection of a caller: requests come in through httptools' parser, answers leave in order.

Made for `uvicorn.Server`, in the place of uvicorn's own protocol, which looks at an answer's
thirteen headers for longer than the policy looks at the request, and bounds neither the size of
a header that is under way nor the time that anything takes.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
import structlog

from app.server.exchange import Exchange
from app.server.heads import lines_of, scope_of

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from app.server.exchange import App
    from app.server.heads import Pair

log = structlog.get_logger()

HEAD_BYTES_MAX: Final = 128 * 1024
"""A target may have 32 KiB; a JWT with many groups and a chain of proxies need their room."""

HEAD_S: Final = 20.0
"""From a connection's first moment, or a request's first byte, to the end of its header."""

TAKEN_S: Final = 120.0
"""For what waits to be sent to be taken: who reads more slowly than this does not read."""

LINGER_S: Final = 5.0
"""For a body that nobody wants. To close while it comes would take back the answer to it."""

PARTING_S: Final = 1.0
"""At the end, for a request that is on its way to a connection at rest."""

PIPELINE_MAX: Final = 64
"""Requests that may wait for the answer to an earlier one on the same connection."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_MALFORMED: Final = b"HTTP/1.1 400 Bad Request\r\n"
_REFUSED: Final = b"content-length: 0\r\nbroker-decision: refused\r\nconnection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """`uvicorn.Server` makes one for each connection, and asks it to `shutdown` at the end."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app = cast("App", config.loaded_app)
        self._loop = _loop or asyncio.get_running_loop()
        self._state = server_state
        self._app_state = app_state
        self._keep_alive_s = float(config.timeout_keep_alive)
        self._parser: Any = httptools.HttpRequestParser(self)
        # What follows an end that was announced is ignored here, and no error of the parser's.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._transport: asyncio.Transport | None = None
        self._scheme = "http"
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._always_of: list[Pair] | None = None
        self._always = b""

        self._ending = False
        self._deaf = False
        """What still arrives is nothing to us."""
        self._paused = False
        self._last_words = b""
        self.choked = False
        self._drained: list[asyncio.Future[None]] = []

        self._url = b""
        self._headers: list[Pair] = []
        self._awaits_continue = False
        self._in_head = True
        self._head_began = False
        self._head_timed = True
        self._head_bytes = 0

        self._answering: Exchange | None = None
        self._receiving: Exchange | None = None
        self._pipeline: deque[Exchange] = deque()

        # One timer a connection, moved only when it rings: a request costs none.
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    # ------------------------------------------------- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no common class.
        self._transport = cast("asyncio.Transport", transport)
        self._state.connections.add(cast("Any", self))
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        if transport.get_extra_info("sslcontext") is not None:
            self._scheme = "https"
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - says no more
        self._state.connections.discard(cast("Any", self))
        self._transport = None
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # It holds us as we hold it.
        self._parser = None
        if self._answering is not None:
            self._answering.leave()
        self._pipeline.clear()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(_MALFORMED)
            return
        if self._head_began:
            # What arrives at once is bounded by the transport: only an unfinished head can grow.
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_TOO_LARGE)
            elif not self._head_timed:
                self._head_timed = True
                self._wait(HEAD_S)

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                # To nothing that is spoken here: such a request is answered as it is, and what
                # follows it is HTTP still.
                data = data[offer.args[0] :]
            else:
                return

    def pause_writing(self) -> None:
        self.choked = True
        self._wait(TAKEN_S)

    def resume_writing(self) -> None:
        self.choked = False
        if self._answering is not None:
            self._due = math.inf
        drained, self._drained = self._drained, []
        for future in drained:
            if not future.done():
                future.set_result(None)

    # ------------------------------------------------------- called by the parser

    def on_message_begin(self) -> None:
        self._head_began = True

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._awaits_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, url, headers, expects = (
            self._parser,
            self._url,
            self._headers,
            self._awaits_continue,
        )
        self._url, self._headers, self._awaits_continue = b"", [], False
        self._in_head = self._head_began = self._head_timed = False
        if self._deaf:
            return
        if not self.choked:
            self._due = math.inf
        version: str = parser.get_http_version()
        modern = version != "1.0"
        exchange = self._receiving = Exchange(
            self,
            scope_of(
                parser.get_method().decode("ascii"),
                url,
                headers,
                version=version,
                scheme=self._scheme,
                client=self._client,
                server=self._server,
                state=self._app_state,
            ),
            chunks=modern,
            closes=not (modern and parser.should_keep_alive()),
            awaits_continue=expects and modern,
        )
        if self._answering is None:
            self._start(exchange)
            return
        self._pipeline.append(exchange)
        self.pause_reading()
        if len(self._pipeline) == PIPELINE_MAX:
            exchange.closes = True

    def on_body(self, body: bytes) -> None:
        if self._receiving is not None:
            self._receiving.feed(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            return
        exchange.end()
        if exchange.closes:
            # What follows is not for us (RFC 9112, 9.6).
            self._deaf = True
        elif exchange.complete:
            # It was answered before its end.
            self._next()

    # ----------------------------------------------------- called by an exchange

    @property
    def always(self) -> bytes:
        headers = self._state.default_headers  # another list each second, with the Date
        if headers is not self._always_of:
            self._always_of, self._always = headers, lines_of(headers)
        return self._always

    @property
    def is_last(self) -> bool:
        return self._ending and not self._pipeline

    def write(self, *pieces: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if len(pieces) == 1:
            transport.write(pieces[0])
        else:
            transport.writelines(pieces)

    async def drained(self) -> None:
        while self.choked:
            future = self._loop.create_future()
            self._drained.append(future)
            await future

    def pause_reading(self) -> None:
        transport = self._transport
        if not self._paused and transport is not None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()

    def resume_reading(self) -> None:
        transport = self._transport
        if self._paused and transport is not None and not transport.is_closing():
            self._paused = False
            transport.resume_reading()

    def cut(self) -> None:
        self._close(read_on=False)

    def answered(self, exchange: Exchange) -> None:
        self._state.total_requests += 1
        if exchange is not self._answering:
            return
        self._answering = None
        if exchange.closes:
            self._last_words = b""
            self._close(read_on=not exchange.ended)
        elif exchange.ended:
            self._next()
        else:
            # The next request stands behind the rest of a body that nobody wants.
            self._wait(LINGER_S)
            self.resume_reading()

    # ------------------------------------------------------------------ the ends

    def shutdown(self) -> None:
        """Nothing new: what is under way is answered, and the last answer says that it is.

        A caller who has not been told so may be sending the next request: closing at once would
        break it off, and a write is not sent again.
        """
        self._ending = True
        if self._answering is None:
            self._wait(PARTING_S)

    def _start(self, exchange: Exchange) -> None:
        self._answering = exchange
        exchange.start(self._loop, self._app, self._state.tasks)

    def _next(self) -> None:
        if self._pipeline:
            self._start(self._pipeline.popleft())
        elif self._last_words:
            self._close(read_on=True)
            return
        elif self._ending:
            self._wait(PARTING_S)
        else:
            self._wait(HEAD_S if self._head_began else self._keep_alive_s)
        if not self._pipeline:
            self.resume_reading()

    def _refuse(self, status_line: bytes) -> None:
        """What is no request has an answer too, in its turn: the last."""
        log.info("server.refused", status=int(status_line[9:12]))
        self._deaf = True
        words = status_line + self.always + _REFUSED
        broken, self._receiving = self._receiving, None
        if broken is not None and broken is self._answering:
            # Its body broke off. Whoever works on it need not go on.
            self._answering = None
            broken.leave()
            if broken.begun:
                self._close(read_on=False)
                return
        elif broken is not None:
            self._pipeline.remove(broken)
        self._last_words = words
        if self._answering is None:
            self._close(read_on=True)

    def _close(self, *, read_on: bool) -> None:
        """Close when all is taken; `read_on`: and when nothing more comes, for a while."""
        self._deaf = self._ending = True
        self._pipeline.clear()
        transport, words = self._transport, self._last_words
        self._last_words = b""
        if transport is None or transport.is_closing():
            return
        if words:
            transport.write(words)
        if read_on:
            self.resume_reading()
            self._wait(LINGER_S)
            if transport.can_write_eof():
                transport.write_eof()
        else:
            self._wait(TAKEN_S)
            transport.close()

    # ------------------------------------------------------------------ the clock

    def _wait(self, seconds: float) -> None:
        now = self._loop.time()
        self._due = due = now + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timer = self._loop.call_later(seconds, self._rung)

    def _rung(self) -> None:
        self._timer = None
        transport = self._transport
        if self._due == math.inf or transport is None:
            return
        left_s = self._due - self._loop.time()
        if left_s > 0.001:
            self._timer = self._loop.call_later(left_s, self._rung)
        elif self._answering is not None and not self.choked:
            # The head of the next request stalls while an answer is on its way: that one first.
            self._wait(HEAD_S)
        elif transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()


def _address(said: Any) -> tuple[str, int] | None:
    """Host and port; a Unix socket has none."""
    if isinstance(said, (tuple, list)) and len(said) >= 2:
        return str(said[0]), int(said[1])
    return None
