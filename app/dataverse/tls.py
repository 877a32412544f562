"""TLS over one TCP connection: a transport for who speaks inside, a protocol for the loop outside.

uvloop's own reads up to 256 KiB ahead for each connection and keeps what that took for as long as
the connection rests: 720 KiB each were measured. Here nothing is read ahead of one read, whose
buffer all connections share.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from typing import Any, Final, Protocol, cast

_LOST: Final = "the connection was lost before TLS was agreed upon"


class Inner(Protocol):
    """Who speaks inside, and owns the buffer that is read into."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def get_buffer(self, sizehint: int) -> memoryview: ...

    def buffer_updated(self, nbytes: int) -> None: ...

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Tls(asyncio.BufferedProtocol):
    """Nothing is said inside before `agree` has returned, or where it raised."""

    def __init__(
        self,
        inner: Inner,
        context: ssl.SSLContext,
        *,
        host: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._agreed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._transport: asyncio.Transport | None = None
        self._speaks = False
        self._paused = False
        self._ended = False
        """Nothing more comes from outside."""
        self._said_all = False
        """The other side has said that this was its last word."""

    async def agree(self, transport: asyncio.BaseTransport) -> None:
        """Returns when the other side has proved its name. Raises `OSError` where it cannot."""
        try:
            await self._agreed
        except BaseException:
            cast("asyncio.Transport", transport).abort()
            raise

    # ------------------------------------------------ called by the loop: outside

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no common class.
        self._transport = cast("asyncio.Transport", transport)
        self._agree()

    def get_buffer(self, sizehint: int) -> memoryview:
        # What is read is copied on at once, so the same buffer takes what it says.
        return self._inner.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(self._inner.get_buffer(nbytes)[:nbytes])
        if self._speaks:
            self._pass_on()
        else:
            self._agree()

    def eof_received(self) -> bool:
        self._ended = True
        if not self._speaks:
            return False
        self._pass_on()
        # Closed when all that came has been taken: the inner side may have paused.
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._agreed.done():
            self._agreed.set_exception(exc or ConnectionResetError(errno.ECONNRESET, _LOST))
        if self._speaks:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._speaks:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._speaks:
            self._inner.resume_writing()

    # ---------------------------------------------- called by the inner side: a transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError:
            self._transport.abort()
            return
        self._send()

    def pause_reading(self) -> None:
        self._paused = True
        if self._transport is not None and not self._ended:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            if not self._ended:
                self._transport.resume_reading()
            if self._ended or self._said_all or self._incoming.pending or self._tls.pending():
                self._loop.call_soon(self._pass_on)

    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    # ------------------------------------------------------------------ TLS

    def _agree(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except ssl.SSLError as e:
            # An alert may tell the other side why.
            self._send()
            if not self._agreed.done():
                self._agreed.set_exception(e)
            self.abort()
            return
        self._send()
        if self._agreed.done():
            return
        self._speaks = True
        self._inner.connection_made(cast("asyncio.BaseTransport", self))
        self._agreed.set_result(None)
        self._pass_on()

    def _pass_on(self) -> None:
        """Everything that can be read, unless the inner side has enough."""
        while not (self._paused or self.is_closing()):
            size = self._read()
            if size:
                self._inner.buffer_updated(size)
            elif self._said_all:
                self._inner.eof_received()
                self.abort()
            else:
                break
        self._send()
        if self._ended and not self._paused:
            self.abort()

    def _read(self) -> int:
        """How much is in the inner buffer now."""
        buffer = self._inner.get_buffer(-1)
        size, room = 0, len(buffer)
        tls, incoming = self._tls, self._incoming
        try:
            # A read that finds nothing raises, which is dear: so this is asked first.
            while size < room and (incoming.pending or tls.pending()):
                read = tls.read(room - size, cast("Any", buffer[size:]))
                if not read:
                    self._said_all = True
                    break
                size += cast("int", read)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.abort()
        return size

    def _send(self) -> None:
        if self._outgoing.pending:
            said = self._outgoing.read()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(said)
