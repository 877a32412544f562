"""A credential's end is known weeks before: in readiness, metrics, the log, and to operators."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from app.sandbox.credentials import WITH_SECRET, self_signed_pem
from app.sandbox.entra.directory import RegisteredCertificate
from tests.faults.bad_days import day

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from app.sandbox.run import Sandbox
    from tests.faults.bad_days import Day
    from tests.path.staging import Configuration

DAYS_S = 24 * 3600


def expiry_s(begun: Day, kind: str) -> float | None:
    text = begun.broker.ask("GET", "/metrics").text
    found = re.search(
        rf'^broker_credential_expiry_seconds{{application="{WITH_SECRET}",credential="[^"]+",'
        rf'kind="{kind}"}} (\S+)$',
        text,
        re.MULTILINE,
    )
    return None if found is None else float(found[1])


def test_an_end_is_told_everywhere_and_fails_nothing(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    pem = self_signed_pem(common_name="erp", now=now, valid_for=timedelta(days=10))

    def prepare(sandbox: Sandbox) -> None:
        registered = sandbox.tenant.applications[sandbox.applications[WITH_SECRET].client_id]
        registered.certificates = (RegisteredCertificate.from_pem(pem),)

    def change(configuration: Configuration, _sandbox: Sandbox) -> None:
        (tmp_path / "erp.pem").write_bytes(pem)
        credentials = configuration["applications"][WITH_SECRET]["credentials"]
        credentials[0]["expires"] = (now + timedelta(days=40)).date()
        credentials.insert(0, {"certificate": {"file": "erp.pem"}})

    with capture_logs() as logs, day(tmp_path, change=change, prepare=prepare) as begun:
        begun.until(lambda: begun.ask().status == 200)
        day_of_end = f"{now + timedelta(days=10):%Y-%m-%d}"
        assert begun.readiness() == (
            200,
            f"erp-invoices credentials[0] (certificate) expires on {day_of_end}",
        )
        left_s = expiry_s(begun, "certificate")
        assert left_s is not None
        assert 9 * DAYS_S < left_s < 10 * DAYS_S
        assert (expiry_s(begun, "client_secret") or 0) > 38 * DAYS_S
        certificate, secret = begun.credentials()
        assert certificate["expires"].startswith(day_of_end)
        assert secret["expires"] is not None

        begun.until(lambda: warned(logs))
        begun.clock.pass_by(days=4)
        begun.until(lambda: 7 in warned(logs))
        assert warned(logs) == [14, 7]


def warned(logs: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Days before the end, of the certificate."""
    return [
        line["days"]
        for line in logs
        if line["event"] == "credential.expiring" and line["kind"] == "certificate"
    ]
