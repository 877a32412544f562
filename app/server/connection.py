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

from app.server.clock import Clock
from app.server.exchange import Exchange
from app.server.heads import scope_of
from app.server.reading import Reading
from app.server.wire import Wire

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from app.server.exchange import App

log = structlog.get_logger()

HEAD_BYTES_MAX: Final = 128 * 1024
"""A target may have 32 KiB; a JWT with many groups and a chain of proxies need their room.
Trailers have no more, nor has what stands between two chunks."""

HEAD_S: Final = 20.0
"""From a connection's first moment, or a request's first byte, to the end of its header."""

TAKEN_S: Final = 120.0
"""For what waits to be sent to be taken: who reads more slowly than this does not read."""

LINGER_S: Final = 5.0
"""For a body that nobody wants. To close while it comes would take back the answer to it."""

PARTING_S: Final = 1.0
"""At the end, for a request that is on its way to a connection at rest: closing at once would break
it off, and nobody sends a write again."""

PIPELINE_MAX: Final = 64
"""Requests that may wait for the answer to an earlier one on the same connection."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_MALFORMED: Final = b"HTTP/1.1 400 Bad Request\r\n"
_REFUSED: Final = b"content-length: 0\r\nbroker-decision: refused\r\nconnection: close\r\n\r\n"


class Connection(Reading, Wire):
    """`uvicorn.Server` makes one for each connection, and asks it to `shutdown` at the end."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        Reading.__init__(self)
        Wire.__init__(self, server_state, _loop or asyncio.get_running_loop())
        if not config.loaded:
            config.load()
        self._app = cast("App", config.loaded_app)
        self._app_state = app_state
        self._keep_alive_s = float(config.timeout_keep_alive)

        self._ending = False
        self._sends_on = False
        """The caller says more than we listen to: what we close upon would be an error for him."""
        self._last_words = b""
        self._head_timed = True
        self._answering: Exchange | None = None
        self._pipeline: deque[Exchange] = deque()
        self._clock = Clock(self._loop, self._late)

    # ------------------------------------------------- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._hold(transport)
        self._state.connections.add(cast("Any", self))
        self._clock.wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - says no more
        self._state.connections.discard(cast("Any", self))
        self._transport = None
        self._deaf = True
        self._clock.stop()
        # These hold us as we hold them.
        answering, self._answering = self._answering, None
        self._parser = self._receiving = None
        self._drop_pipeline()
        if answering is not None:
            answering.leave()
        self._release()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._sends_on = True
            return
        self._unframed_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(_MALFORMED)
            return
        # A head that arrived at once is bounded by the transport, and was counted already.
        if self._unframed_bytes > HEAD_BYTES_MAX:
            self._refuse(_TOO_LARGE)
        elif self._in_head and not (self._head_timed or self._deaf):
            self._head_timed = True
            if self._answering is None:
                self._wait()

    def pause_writing(self) -> None:
        self.choked = True
        self._clock.wait(TAKEN_S)

    def resume_writing(self) -> None:
        self._release()
        transport = self._transport
        if self._answering is not None:
            self._clock.due = math.inf
        elif transport is not None and not transport.is_closing():
            self._wait()

    # ------------------------------------------------------- called by the parser

    def on_headers_complete(self) -> None:
        parser, url, headers = self._parser, self._url, self._headers
        hosts, noted = self._hosts, self._noted
        self._url, self._headers, self._hosts = b"", [], 0
        self._in_head = self._head_timed = False
        self._unframed_bytes = 0
        if noted:
            self._noted = {}
        if self._deaf or self._retelling:
            self._retelling = False
            return
        version: str = parser.get_http_version()
        modern = version == "1.1"
        expects = offers = False
        if noted or hosts != 1 or not modern:
            self._check(version, hosts, noted)
            expects = modern and noted.get(b"expect", b"").lower() == b"100-continue"
            offers = b"upgrade" in noted and parser.should_upgrade()
        if not self.choked:
            self._clock.due = math.inf
        method: str = parser.get_method().decode("ascii")
        exchange = self._receiving = Exchange(
            self,
            scope_of(
                method,
                url,
                headers,
                version=version,
                scheme=self._scheme,
                client=self._client,
                server=self._server,
                state=self._app_state,
            ),
            chunks=modern,
            # The parser sees no end of what follows a CONNECT.
            closes=not (modern and parser.should_keep_alive())
            or method == "CONNECT"
            or self._ending,
            awaits_continue=expects,
        )
        if offers and method != "CONNECT":
            self._interrupt(exchange, headers)
        if self._answering is None:
            self._start(exchange)
            return
        self._pipeline.append(exchange)
        self.pause_reading()
        if len(self._pipeline) == PIPELINE_MAX:
            exchange.closes = self._sends_on = True

    def on_body(self, body: bytes) -> None:
        self._unframed_bytes = 0
        if self._receiving is not None:
            self._receiving.feed(body)

    def on_message_complete(self) -> None:
        self._unframed_bytes = 0
        if self._headers:
            # A trailer's. They are nobody's, least of all the next request's.
            self._forget()
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

    def resume_reading(self) -> None:
        """Not while requests wait: one who sends faster than he is answered waits as well."""
        if not self._pipeline:
            super().resume_reading()

    def cut(self, exchange: Exchange) -> None:
        transport = self._transport
        if exchange.delimited or transport is None:
            self._close(read_on=False)
            return
        # An orderly end would be the end of the body.
        self._deaf = True
        self._reset(transport)

    def answered(self, exchange: Exchange) -> None:
        self._state.total_requests += 1
        if exchange is not self._answering:
            return
        self._answering = None
        if exchange.closes:
            self._last_words = b""
            self._close(read_on=self._paused or self._sends_on or not exchange.ended)
        elif exchange.ended:
            self._next()
        else:
            # The next request stands behind the rest of a body that nobody wants.
            self._wait()
            self.resume_reading()

    # -------------------------------------------------------- the ends, and time

    def shutdown(self) -> None:
        """What is under way is answered, and the last answer says that it is.

        Where no answer can say so any more, the next request is answered too, if it comes soon.
        """
        transport = self._transport
        if self._ending or transport is None:
            return
        self._ending = True
        last = self._pipeline[-1] if self._pipeline else self._answering
        if transport.is_closing():
            self._part(transport)
        elif last is None:
            if not self._deaf:
                self._wait()
        elif not (last.begun or self._last_words):
            last.closes = True
            self._deaf = self._deaf or last.ended

    def _start(self, exchange: Exchange) -> None:
        self._answering = exchange
        exchange.start(self._loop, self._app, self._state.tasks)
        if self._ending:
            # When its patience ends, the server cancels what it finds.
            exchange.mind(self._state.tasks)

    def _next(self) -> None:
        if self._pipeline:
            self._start(self._pipeline.popleft())
        elif self._last_words:
            self._close(read_on=True)
            return
        else:
            self._wait()
        if self._paused:
            self.resume_reading()

    def _refuse(self, status_line: bytes) -> None:
        """What is no request has an answer too, in its turn: the last."""
        if self._deaf:
            return
        log.info("server.refused", status=int(status_line[9:12]))
        self._deaf = True
        broken, self._receiving = self._receiving, None
        if broken is not None:
            # Its body broke off. Whoever works on it need not go on.
            if broken.complete:
                self._close(read_on=True)
                return
            broken.leave()
            if broken is not self._answering:
                self._pipeline.remove(broken)
            else:
                self._answering = None
                if broken.begun:
                    self.cut(broken)
                    return
        self._last_words = status_line + self.always + _REFUSED
        if self._answering is None:
            self._close(read_on=True)

    def _drop_pipeline(self) -> None:
        while self._pipeline:
            self._pipeline.popleft().leave()

    def _close(self, *, read_on: bool) -> None:
        """Close when all is taken; `read_on`: and when nothing more comes, for a while."""
        self._deaf = True
        self._drop_pipeline()
        transport, words = self._transport, self._last_words
        self._last_words = b""
        if transport is None or transport.is_closing():
            return
        if words:
            transport.write(words)
        if read_on:
            self.resume_reading()
            self._wait()
            if transport.can_write_eof():
                transport.write_eof()
        else:
            self._part(transport)
            transport.close()

    def _part(self, transport: asyncio.Transport) -> None:
        # A caller whom nothing is sent any more may still owe the end of TLS, and a pool of
        # connections reads none of those that rest: the server's end does not wait for that.
        taken = self._ending and not transport.get_write_buffer_size()
        self._clock.wait(LINGER_S if taken else TAKEN_S)

    def _wait(self) -> None:
        """While no answer is on its way."""
        if self.choked:
            seconds = TAKEN_S
        elif self._deaf or self._receiving is not None:
            seconds = LINGER_S
        elif self._ending:
            seconds = PARTING_S
        else:
            seconds = HEAD_S if self._in_head else self._keep_alive_s
        self._clock.wait(seconds)

    def _late(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if self.choked or transport.is_closing():
            transport.abort()
        else:
            self._close(read_on=False)
