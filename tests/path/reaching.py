"""Asking a broker over its port, and reading what it has put on record."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from app.audit.record import Record, decode, is_record
from app.audit.sqlite_entries import read_entries
from tests.path.raw_http import RawAnswer, RawConnection, request_bytes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

PATIENCE_S = 20.0


def free_port() -> int:
    """For what has to be known before it is bound."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(found: Callable[[], T | None], *, within_s: float = PATIENCE_S) -> T:
    """Ask again until there is something; a test that waits in vain says so."""
    due = time.monotonic() + within_s
    while True:
        result = found()
        if result is not None:
            return result
        if time.monotonic() > due:
            raise AssertionError(f"still not so after {within_s:g} s")
        time.sleep(0.01)


@dataclass(slots=True, kw_only=True)
class Reachable:
    """A broker that listens on loopback, wherever it runs."""

    port: int
    audit_file: Path
    tls: ssl.SSLContext | None = None
    """For those who speak to it."""
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def connect(self) -> RawConnection:
        return RawConnection(self.port, tls=self.tls)

    def bearer(self, caller: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[caller]}"}

    def ask(
        self,
        method: str,
        target: str,
        *,
        caller: str | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | str | Any = None,
    ) -> RawAnswer:
        """One request on a connection of its own. JSON where `body` is neither text nor bytes."""
        sent = dict(headers or {})
        if caller is not None:
            sent = {**self.bearer(caller), **sent}
        if isinstance(body, str):
            body = body.encode()
        elif body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        with self.connect() as connection:
            connection.send(
                request_bytes(method, target, sent, body, host=f"127.0.0.1:{self.port}")
            )
            return connection.answer()

    def records(self) -> list[Record]:
        """All that is on record, oldest first."""
        entries = (entry for _, entry in read_entries(self.audit_file))
        return [decode(entry.body) for entry in entries if is_record(entry.body)]

    def records_of(self, request_id: str | None) -> list[Record]:
        return [r for r in self.records() if r.request_id == request_id]

    def until_recorded(self, request_id: str | None, *, count: int = 1) -> list[Record]:
        """Waits for what is recorded after the answer, or without one."""
        return until(lambda: found if len(found := self.records_of(request_id)) >= count else None)

    def until_ready(self) -> None:
        until(lambda: self.ask("GET", "/readyz").status == 200 or None)
