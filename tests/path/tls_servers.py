"""Servers on loopback that speak TLS and no word more, and a proxy that leads to them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    import trustme


def context_for(ca: trustme.CA, *names: str, ends: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, not_after=ends).configure_cert(context)
    return context


@contextlib.contextmanager
def server_of(context: ssl.SSLContext) -> Iterator[int]:
    """Its port."""

    def shake_hands(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with serving(shake_hands) as port:
        yield port


@contextlib.contextmanager
def proxy_to(port: int, *, status: bytes = b"200 OK") -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that leads there, whoever was asked for, or says `status`; and what it was asked."""
    asked: list[bytes] = []

    def lead(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(4096)
            if not piece:
                return
            request += piece
        asked.append(request)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n")
        if not status.startswith(b"200"):
            return
        with socket.create_connection(("127.0.0.1", port), timeout=5) as there:
            back = threading.Thread(target=_copy, args=(there, connection), daemon=True)
            back.start()
            _copy(connection, there)
            back.join(5)

    with serving(lead) as own:
        yield own, asked


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def serving(each: Callable[[socket.socket], None]) -> Iterator[int]:
    """One connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    connection.settimeout(5)
                    with connection, contextlib.suppress(OSError):
                        each(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname(), timeout=1).close()
            thread.join(10)
