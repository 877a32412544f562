"""What leaves on a connection, how fast it is taken, and how much is read meanwhile."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, cast

from app.server.heads import lines_of

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from app.server.heads import Pair

UNTAKEN_BYTES: Final = 64 * 1024
"""Of an answer, beyond the piece that was written last. Over TLS uvloop would keep 512 KiB."""

_RESET: Final = struct.pack("ii", 1, 0)


class Wire(asyncio.Protocol):
    """A connection's half that holds the transport, and stays quiet once that is closing."""

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._scheme = "http"
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._always_of: list[Pair] | None = None
        self._always = b""
        self._paused = False
        self.choked = False
        self._drained: list[asyncio.Future[None]] = []

    def _hold(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no common class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNTAKEN_BYTES)
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        if transport.get_extra_info("sslcontext") is not None:
            self._scheme = "https"

    @property
    def always(self) -> bytes:
        headers = self._state.default_headers  # another list each second, with the Date
        if headers is not self._always_of:
            self._always_of, self._always = headers, lines_of(headers)
        return self._always

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

    def _release(self) -> None:
        self.choked = False
        drained, self._drained = self._drained, []
        for future in drained:
            if not future.done():
                future.set_result(None)

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

    def _reset(self, transport: asyncio.Transport) -> None:
        """The caller sees an error, and not the end of what he was sent."""
        if (wire := transport.get_extra_info("socket")) is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


def _address(said: Any) -> tuple[str, int] | None:
    """Host and port; a Unix socket has none."""
    if isinstance(said, (tuple, list)) and len(said) >= 2:
        return str(said[0]), int(said[1])
    return None
