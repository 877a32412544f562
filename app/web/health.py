"""What orchestrators and Prometheus ask: alive, ready, how much.

Not on the record, and answered without a caller: nothing here tells more than names of parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from app.telemetry.metrics import CONTENT_TYPE
from app.web.asgi import Answer, send_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.web.asgi import Receive, Scope, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that readiness depends on, or that limps."""

    name: str
    """configuration, audit, `schema:<environment>`, …"""
    ok: bool
    """False takes this replica out of the load balancer."""
    degraded: bool = False
    """It works, but not as it should: told, and still ready. A bad ConfigMap must not drain
    every replica."""
    detail: str = ""


class Readiness(Protocol):
    def checks(self) -> Sequence[Check]:
        """From what is known already: a probe must not wait for a disk or for Dataverse."""
        ...


class Exposition(Protocol):
    def exposition(self) -> bytes: ...


_JSON: Final = b"application/json"
_ALIVE: Final = b'{"status":"alive"}'


class Health:
    """The app behind /livez, /readyz and /metrics."""

    def __init__(self, *, readiness: Readiness, metrics: Exposition) -> None:
        self._readiness = readiness
        self._metrics = metrics

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await send_answer(send, self._answer(scope["method"], scope["path"]))

    def _answer(self, method: str, path: str) -> Answer:
        if method not in {"GET", "HEAD"}:
            return _answer(405, _JSON, b'{"status":"method not allowed"}', (b"allow", b"GET, HEAD"))
        if path == "/metrics":
            return _answer(200, CONTENT_TYPE.encode("ascii"), self._metrics.exposition())
        if path == "/readyz":
            return self._ready()
        # Depends on nothing: a broken disk or Entra is no reason to restart the process.
        return _answer(200, _JSON, _ALIVE)

    def _ready(self) -> Answer:
        checks = self._readiness.checks()
        ok = all(check.ok for check in checks)
        degraded = any(check.degraded for check in checks)
        status = ("degraded" if degraded else "ready") if ok else "unready"
        body = msgspec.json.encode(
            {
                "status": status,
                "checks": [
                    {
                        "name": check.name,
                        "ok": check.ok,
                        "degraded": check.degraded,
                        "detail": check.detail,
                    }
                    for check in checks
                ],
            }
        )
        return _answer(200 if ok else 503, _JSON, body)


def _answer(status: int, content_type: bytes, body: bytes, *more: tuple[bytes, bytes]) -> Answer:
    return Answer(
        status=status,
        headers=(
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"cache-control", b"no-store"),
            *more,
        ),
        body=body,
    )
