"""The doctor before the sandbox: a configuration that somebody has spoilt, and what he finds."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from app.doctor.finding import Level
from app.doctor.surroundings import Surroundings
from app.doctor.walk import examine
from app.path.connecting import connect
from app.sandbox.credentials import WITH_SECRET
from app.sandbox.run import write_configuration
from app.tokens.entra import MsalEntra
from app.tokens.graph import Graph
from app.tokens.key_vault import KeyVaults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from app.doctor.finding import Finding
    from app.sandbox.entra.directory import RegisteredApplication
    from app.sandbox.run import Sandbox
    from tests.path.staging import Configuration

BROKER = "http://127.0.0.1:1"


def around(
    *, environ: Mapping[str, str] | None = None, graph_hosts: Mapping[str, str] | None = None
) -> Surroundings:
    entra = MsalEntra()
    return Surroundings(
        environ=environ or {},
        vaults=KeyVaults(),
        entra=entra,
        graph=Graph(entra, graph_hosts or {}),
        connect=connect,
        now=lambda: datetime.now(UTC),
    )


@dataclass(frozen=True, slots=True)
class Patient:
    """A folder with a configuration for a broker before the sandbox."""

    sandbox: Sandbox
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "broker.yaml"

    def configure(self, change: Callable[[Configuration], None] = lambda _: None) -> Path:
        file = write_configuration(self.folder, self.sandbox, broker_url=BROKER)
        configuration = yaml.safe_load(file.read_text())
        change(configuration)
        file.write_text(yaml.safe_dump(configuration, sort_keys=False))
        return file

    def examined(
        self,
        change: Callable[[Configuration], None] = lambda _: None,
        *,
        environment: str | None = None,
        application: str | None = "erp-invoices",
        audit_url: str | None = None,
        **surroundings: Any,
    ) -> list[Finding]:
        """All that is found, of one application unless told otherwise."""
        self.configure(change)
        return asyncio.run(
            self._examined(
                environment=environment,
                application=application,
                audit_url=audit_url or f"sqlite:///{self.folder / 'audit.db'}",
                **surroundings,
            )
        )

    async def _examined(
        self,
        *,
        environment: str | None,
        application: str | None,
        audit_url: str,
        **surroundings: Any,
    ) -> list[Finding]:
        place = around(**surroundings)
        try:
            return [
                finding
                async for finding in examine(
                    self.config,
                    audit_url,
                    environment=environment,
                    application=application,
                    surroundings=place,
                )
            ]
        finally:
            await place.aclose()


def wrong(findings: list[Finding]) -> list[tuple[str, str, str | None]]:
    """Step, level and code of what is not as it should be. Advice and what is skipped aside."""
    return [
        (f.step, f.level.value, f.code)
        for f in findings
        if f.level in {Level.WARNING, Level.FAILURE}
    ]


def of_step(findings: list[Finding], step: str) -> list[Finding]:
    return [finding for finding in findings if finding.step == step]


def the(findings: list[Finding], step: str, level: Level) -> Finding:
    (found,) = [finding for finding in of_step(findings, step) if finding.level is level]
    return found


def registered(patient: Patient, name: str = WITH_SECRET) -> RegisteredApplication:
    client_id = patient.sandbox.applications[name].client_id
    return patient.sandbox.tenant.applications[client_id]


def erp(configuration: Configuration) -> dict[str, Any]:
    application: dict[str, Any] = configuration["applications"][WITH_SECRET]
    return application


def contoso(configuration: Configuration) -> dict[str, Any]:
    environment: dict[str, Any] = configuration["environments"]["contoso"]
    return environment


def without_administrator(configuration: Configuration) -> None:
    del contoso(configuration)["administrator"]


def has_no_secret(patient: Patient, findings: list[Finding]) -> None:
    told = json.dumps([finding.as_json() for finding in findings]) + repr(findings)
    held = [a.client_secret for a in patient.sandbox.applications.values() if a.client_secret]
    for secret in (*held, "hunter2", "eyJ0", "PRIVATE KEY"):
        assert secret not in told


TOO_MUCH = ("privileges", "warning", None)
"""The sandbox's role for invoices holds a little more than its grant needs."""
