"""A way through an HTTP proxy: CONNECT in the clear, then TLS to Dataverse inside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.dataverse.framing import AnswerReader, MalformedAnswer
from app.dataverse.tls import Tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from app.dataverse.connection import Connection
    from app.dataverse.proxies import HttpProxy


class TunnelRefused(OSError):
    """The proxy did not open the way."""

    def __init__(self, what: str) -> None:
        self.why = f"the proxy {what}"
        super().__init__(self.why)


class _Connect(asyncio.Protocol):
    """Speaks with the proxy until it has opened the tunnel; then nothing comes here any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[None] = loop.create_future()
        # The answer to CONNECT has no body when it is a yes (RFC 9110, 9.3.6).
        self._reader = AnswerReader(head_only=True)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            return
        try:
            self._reader.feed(data)
        except MalformedAnswer as e:
            self._refuse(f"gave an answer that cannot be read: {e}")
            return
        status = self._reader.status
        if status is None:
            return
        if status == 407:
            self._refuse("wants another user or password (407)")
        elif not 200 <= status < 300:
            self._refuse(f"refused the way with {status}")
        elif self._reader.surplus:
            self._refuse("spoke before the tunnel was used")
        else:
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - says no more
        if not self.opened.done():
            self._refuse("closed the connection")

    def _refuse(self, what: str) -> None:
        self.opened.set_exception(TunnelRefused(what))


async def open_tunnel(
    proxy: HttpProxy,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext,
    connection: Callable[[], Connection],
) -> Connection:
    """Raises `OSError` where the proxy or the TLS behind it does not work out."""
    loop = asyncio.get_running_loop()
    authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")
    transport, asking = await loop.create_connection(lambda: _Connect(loop), proxy.host, proxy.port)
    try:
        lines = [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (authority, authority)]
        if proxy.authorization is not None:
            lines.append(b"Proxy-Authorization: %b\r\n" % proxy.authorization)
        transport.write(b"".join(lines) + b"\r\n")
        await asking.opened
        made = connection()
        inside = Tls(made, tls, host=host, loop=loop)
        # uvloop goes on reading for the protocol that it began to read for.
        transport.pause_reading()
        transport.set_protocol(inside)
        inside.connection_made(transport)
        transport.resume_reading()
        await inside.agree(transport)
    except BaseException:
        transport.abort()
        raise
    return made
