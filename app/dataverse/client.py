"""One environment over HTTP/1.1: from an `UpstreamRequest` to an answer's head and stream.

No cookies are kept, no redirects followed, no content coding undone, nothing is tried twice:
what Dataverse says is what comes out, and `dataverse.retries` decides about another try.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.dataverse.answer import READ_BYTES, TLS_READ_BYTES
from app.dataverse.connection import Connection, Patience
from app.dataverse.failures import ExchangeFailed, Stage
from app.dataverse.pool import Pool
from app.dataverse.tls import Tls
from app.dataverse.tunnel import TunnelRefused, open_tunnel
from app.dataverse.wire import framing_line, request_head

if TYPE_CHECKING:
    from pathlib import Path

    from app.dataverse.answer import Answer
    from app.dataverse.message import UpstreamRequest
    from app.dataverse.proxies import HttpProxy


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Scheme, host and port of an environment's URL."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        parts = urlsplit(url)
        assert parts.hostname is not None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(scheme=parts.scheme, host=parts.hostname, port=port)

    @property
    def authority(self) -> str:
        """As it stands in Host: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Verifies chain and name; `ca_file`, where given, is trusted instead of the system's CAs."""
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # In mid-connection nobody needs another handshake: writing would have to wait for it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class UpstreamClient:
    """An `Upstream`. Belongs to the event loop that first sends through it."""

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: HttpProxy | None = None,
        patience: Patience | None = None,
        connections: int = 100,
        waiting: int = 1000,
        close_delimited: bool = False,
    ) -> None:
        """`tls` is needed for https; `proxy` is used for https only.

        `connections` bounds what is open at once, `waiting` the requests in line for one.
        """
        self._origin = Origin.of(url)
        self._host_header = self._origin.authority.encode("ascii")
        self._tls = (tls or tls_context()) if self._origin.scheme == "https" else None
        self._proxy = proxy if self._tls is not None else None
        self._patience = patience or Patience()
        self._close_delimited = close_delimited
        self._read_buffer = memoryview(
            bytearray(READ_BYTES if self._tls is None else TLS_READ_BYTES)
        )
        self._pool = Pool(
            self._connect, host=self._origin.authority, connections=connections, waiting=waiting
        )

    def __repr__(self) -> str:
        return f"<UpstreamClient {self._origin.scheme}://{self._origin.authority}>"

    @property
    def pool(self) -> Pool:
        """For metrics: how many connections are open, idle, waited for."""
        return self._pool

    async def send(
        self, request: UpstreamRequest, *, timeout_s: float, fresh: bool = False
    ) -> Answer:
        """Send, and return when the answer's head is there. Always `aclose()` the answer.

        `timeout_s` bounds the wait for a connection in line, and then the wait for the head
        (from the body's last byte on where the body streams). `fresh` closes the connections
        at rest and opens a new one: after one was found stale, the others are too.

        Raises `ExchangeFailed` (an `UpstreamFailed`; `sent` says whether Dataverse may have
        seen the request), `UpstreamBusy`, and `UnsendableHead` before anything is done.
        """
        head = request_head(
            request.method,
            request.target,
            self._host_header,
            request.headers,
            framing_line(request),
        )
        connection = await self._pool.lend(timeout_s=timeout_s, fresh=fresh)
        return await connection.exchange(request, head=head, timeout_s=timeout_s)

    async def aclose(self, *, grace_s: float = 0.0) -> None:
        """Close what is at rest, wait for the rest `grace_s` at most, then cut it."""
        await self._pool.aclose(grace_s=grace_s)

    async def _connect(self, pool: Pool) -> Connection:
        loop = asyncio.get_running_loop()
        origin = self._origin

        def connection() -> Connection:
            return Connection(
                loop=loop,
                owner=pool,
                host=origin.authority,
                patience=self._patience,
                read_buffer=self._read_buffer,
                close_delimited=self._close_delimited,
            )

        try:
            async with asyncio.timeout(self._patience.connect_s):
                if self._proxy is not None:
                    assert self._tls is not None
                    return await open_tunnel(
                        self._proxy,
                        host=origin.host,
                        port=origin.port,
                        tls=self._tls,
                        connection=connection,
                    )
                made = connection()
                if self._tls is None:
                    await loop.create_connection(lambda: made, origin.host, origin.port)
                    return made
                tls = Tls(made, self._tls, host=origin.host, loop=loop)
                transport, _ = await loop.create_connection(lambda: tls, origin.host, origin.port)
                await tls.agree(transport)
                return made
        except OSError as e:
            raise ExchangeFailed(
                "upstream-unreachable",
                f"{origin.authority} cannot be reached: {_reason(e)}",
                stage=Stage.CONNECTING,
            ) from e


def _reason(error: OSError) -> str:
    """What a person can act on; no addresses, which are the network's own business."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({error.verify_message}): "
            "check the environment's url and ca_file"
        )
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved: check the environment's url and DNS"
    if isinstance(error, TunnelRefused):
        return error.why
    if isinstance(error, TimeoutError):
        return "no connection in time: check the network policy and the proxy"
    return os.strerror(error.errno) if error.errno else "the connection was not accepted"
