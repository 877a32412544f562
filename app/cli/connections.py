"""What a connection may take before there is a request: a bounded time and a bounded size.

Afterwards the application's own limits hold. uvicorn bounds neither under httptools, so that a
client that never ends its header would hold memory and a connection for as long as it likes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.cli.corked import Corked

if TYPE_CHECKING:
    import asyncio

HEAD_BYTES_MAX: Final = 128 * 1024
"""A target may have 32 KiB; a JWT with many groups and a chain of proxies need their room."""

HEAD_S: Final = 20.0
"""From a connection's first moment, or a request's first byte, to the end of its header."""

PARSED_BYTES_MAX: Final = 0xFFFF
"""httptools takes no longer target: it counts in 16 bits."""

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nbroker-decision: refused\r\nconnection: close\r\n\r\n"
)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these two bounds, and an answer's head beside its body."""

    _in_head = True
    _begun = False
    _head_bytes = 0
    # One timer a connection, moved only when it rings: a request costs none.
    _timer: asyncio.TimerHandle | None = None
    _due = math.inf
    _corked: Corked

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._corked = Corked(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._corked))
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # What arrives at once is bounded by the transport: only an unfinished head can grow.
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._stop_waiting()
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._corked.hold()
        self._stop_waiting()
        # Cut, it is still longer than the application takes, which refuses it by name and on
        # record. uvicorn would say that this is no HTTP.
        self.url = self.url[:PARSED_BYTES_MAX]
        super().on_headers_complete()
        self._begun = True

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _wait_for_head(self) -> None:
        self._due = self.loop.time() + HEAD_S
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._waited)

    def _stop_waiting(self) -> None:
        self._due = math.inf

    def _waited(self) -> None:
        self._timer = None
        if self._due == math.inf:
            return
        left_s = self._due - self.loop.time()
        if left_s > 0.001:
            self._timer = self.loop.call_later(left_s, self._waited)
            return
        if self._begun and not self.cycle.response_complete:
            # The head of the next request stalls while an answer is on its way: that one first.
            self._wait_for_head()
        elif not self.transport.is_closing():
            self.transport.close()
