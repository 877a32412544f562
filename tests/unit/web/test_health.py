from __future__ import annotations

from typing import Any

import pytest

from app.web.health import Check, Health

pytestmark = pytest.mark.anyio


class Parts:
    def __init__(self, *checks: Check) -> None:
        self._checks = checks

    def checks(self) -> tuple[Check, ...]:
        return self._checks

    def exposition(self) -> bytes:
        return b"broker_requests_total 1.0\n"


def health(*checks: Check) -> Health:
    parts = Parts(*checks)
    return Health(readiness=parts, metrics=parts)


GOOD = Check(name="audit", ok=True)
BAD = Check(name="configuration", ok=False, detail="none was loaded yet")
LIMPING = Check(name="configuration", ok=True, degraded=True, detail="broker.yaml does not load")


async def test_being_alive_depends_on_nothing(call: Any) -> None:
    seen = await call(health(BAD), b"/livez")
    assert (seen.status, seen.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize(
    ("checks", "status", "word"),
    [
        pytest.param((GOOD,), 200, "ready", id="ready"),
        pytest.param((GOOD, LIMPING), 200, "degraded", id="degraded"),
        pytest.param((GOOD, BAD), 503, "unready", id="one part missing"),
        pytest.param((LIMPING, BAD), 503, "unready", id="degraded and missing"),
    ],
)
async def test_being_ready_needs_every_part(
    call: Any, checks: tuple[Check, ...], status: int, word: str
) -> None:
    seen = await call(health(*checks), b"/readyz")
    assert (seen.status, seen.json()["status"]) == (status, word)
    assert [check["name"] for check in seen.json()["checks"]] == [c.name for c in checks]


async def test_a_check_tells_why(call: Any) -> None:
    seen = await call(health(LIMPING), b"/readyz")
    assert seen.json()["checks"] == [
        {
            "name": "configuration",
            "ok": True,
            "degraded": True,
            "detail": "broker.yaml does not load",
        }
    ]


async def test_metrics_are_prometheus_text(call: Any) -> None:
    seen = await call(health(), b"/metrics")
    assert seen.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert seen.body == b"broker_requests_total 1.0\n"


async def test_probes_are_only_read(call: Any) -> None:
    seen = await call(health(GOOD), b"/livez", method="POST")
    assert (seen.status, seen.headers["allow"]) == (405, "GET, HEAD")
