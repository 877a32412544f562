"""A broker with many callers: by key, by an issuer whose keys the test holds, by Entra."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import yaml
from pydantic import SecretStr

from app.sandbox.credentials import CLIENT_IDS, OF_LEGACY_JOB, WITH_SECRET
from app.sandbox.run import SandboxOptions, caller_keys, sandbox_in_thread, write_configuration
from app.settings import Settings
from tests.path.running import RunningBroker, broker_in_thread, free_port
from tests.unit.identity.issuing import IssuerServer, rsa_key, sign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.audit.record import Record
    from app.sandbox.run import Sandbox
    from tests.path.raw_http import RawAnswer

FORM = "application/x-www-form-urlencoded"
TENANT = "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9012"
KEYS = {
    name: f"dvb_{name}_{sha256(name.encode()).hexdigest()}"
    for name in ("loader", "two-ways", "hasty", "single", "disabled", "expired", "reader", "gone")
}


@dataclass
class Desk:
    """Where callers come to."""

    broker: RunningBroker
    sandbox: Sandbox
    issuer: IssuerServer
    file: Path

    @property
    def contoso(self) -> str:
        return self.sandbox.environments["contoso"].url

    @property
    def fabrikam(self) -> str:
        return self.sandbox.environments["fabrikam"].url

    @property
    def base(self) -> str:
        return f"{self.broker.url}/environments/contoso"

    # ------------------------------------------------------------- asking

    def token(
        self,
        fields: dict[str, str],
        *,
        path: str = f"/{TENANT}/oauth2/v2.0/token",
        headers: dict[str, str] | None = None,
    ) -> RawAnswer:
        sent = {"Content-Type": FORM, **(headers or {})}
        return self.broker.ask("POST", path, headers=sent, body=urlencode(fields))

    def by_secret(self, caller: str, resource: str | None, **more: str) -> RawAnswer:
        """As Microsoft's own guide asks."""
        fields = {
            "client_id": caller,
            "client_secret": self.broker.keys[caller],
            "grant_type": "client_credentials",
            **({} if resource is None else {"scope": f"{resource}/.default"}),
            **more,
        }
        return self.token(fields)

    def broker_token(self, caller: str, resource: str | None = None) -> str:
        answer = self.by_secret(caller, resource or self.broker.url)
        assert answer.status == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def with_bearer(
        self, token: str, target: str = "/callers/me", method: str = "GET", **headers: str
    ) -> RawAnswer:
        return self.broker.ask(
            method, target, headers={"Authorization": f"Bearer {token}", **headers}
        )

    # ------------------------------------------------------- proving oneself

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        return self.issuer.claims(**{"exp": now + 600, "nbf": now, "iat": now, **changed})

    def jwt(self, *, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """Of the issuer `cluster`; a claim that is changed to None is left out."""
        payload = json.dumps(self.claims(**changed)).encode()
        return sign(rsa_key("one"), payload, **(header or {})).decode()

    def entra_jwt(self, **changed: Any) -> str:
        """Signed with Entra's own key, whatever it says."""
        now = int(time.time())
        claims = {
            "aud": "api://dataverse-token-broker",
            "iss": f"{self.sandbox.entra_url}/{TENANT}/v2.0",
            "azp": CLIENT_IDS[WITH_SECRET],
            "tid": TENANT,
            "sub": "subject",
            "idtyp": "app",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "ver": "2.0",
            **changed,
        }
        return self.sandbox.entra.keys.sign({n: v for n, v in claims.items() if v is not None})

    # --------------------------------------------------------------- looking

    def record_of(self, answer: RawAnswer) -> Record:
        (record,) = self.broker.until_recorded(answer.header("broker-request-id"))
        return record


def _callers() -> dict[str, Any]:
    reads: dict[str, Any] = {"accounts": {"operations": ["read"], "columns": ["name"]}}

    def caller(
        name: str, *grants: dict[str, Any], expires: str | None = None, **more: Any
    ) -> dict[str, Any]:
        key: dict[str, Any] = {"sha256": sha256(KEYS[name].encode()).hexdigest()}
        if expires is not None:
            key["expires"] = expires
        return {"identities": [{"api_key": key}], "grants": list(grants), **more}

    def grant(environment: str, application: Any = WITH_SECRET, **more: Any) -> dict[str, Any]:
        return {"environment": environment, "application": application, "tables": reads} | more

    callers = {
        "loader": caller("loader", grant("contoso")),
        "two-ways": caller(
            "two-ways",
            grant("contoso"),
            grant("contoso", OF_LEGACY_JOB, issue_token=True),
            grant("fabrikam", OF_LEGACY_JOB, issue_token=True),
            default_environment="contoso",
            roles=["auditor", "operator"],
        ),
        "hasty": caller(
            "hasty",
            grant(
                "contoso",
                issue_token=True,
                tables={"accounts": {"operations": ["read", "update"], "columns": ["name"]}},
                limits={"requests_per_minute": 3},
            ),
        ),
        "single": caller("single", grant("contoso", limits={"concurrency": 1})),
        "disabled": caller("disabled", grant("contoso"), disabled=True),
        "expired": caller("expired", grant("contoso"), expires="2020-01-01"),
        "reader": caller("reader", roles=["auditor"]),
        "gone": caller("gone", grant("contoso")),
    }
    callers["loader"]["identities"] += [
        {"jwt": {"issuer": "cluster", "claims": {"sub": "system:serviceaccount:erp:loader"}}},
        {"jwt": {"issuer": "entra", "claims": {"azp": CLIENT_IDS[WITH_SECRET]}}},
    ]
    return callers


@pytest.fixture(scope="session")
def issuer() -> Iterator[IssuerServer]:
    with IssuerServer(rsa_key("one")) as server:
        yield server


@pytest.fixture(scope="session")
def desk(issuer: IssuerServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    options = SandboxOptions(
        state_dir=folder / "sandbox", environment_ports={"contoso": 0, "fabrikam": 0}
    )
    with sandbox_in_thread(options) as sandbox:
        port = free_port()
        file = write_configuration(folder, sandbox, broker_url=f"http://127.0.0.1:{port}")
        configuration = yaml.safe_load(file.read_text())
        configuration["issuers"]["cluster"] = {"issuer": issuer.url, "audience": "broker"}
        configuration["callers"] |= _callers()
        file.write_text(yaml.safe_dump(configuration))
        settings = Settings(
            config=file,
            state_dir=folder / "state",
            audit_url=SecretStr(f"sqlite:///{folder / 'audit.db'}"),
        )
        keys = {**caller_keys(folder), **KEYS}
        with broker_in_thread(settings, port=port, keys=keys) as broker:
            broker.until_ready()
            yield Desk(broker, sandbox, issuer, file)


@pytest.fixture(autouse=True)
def unlimited(desk: Desk) -> None:
    """Every attack here fails to prove who it is, from one address: that is counted elsewhere."""
    strangers: Any = desk.broker.running.broker.strangers
    desk.broker.on_loop(strangers._by_address.clear)
