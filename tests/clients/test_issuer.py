"""A caller whose own issuer vouches for him: oidc-provider, which nobody here has written."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml

from tests.clients.conftest import CALLER, NODE
from tests.path.running import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clients.conftest import Served

AUDIENCE = "https://dataverse-token-broker.internal.example"
WORKLOAD, SECRET = "erp-loader", "a-secret-of-this-test"


@dataclass(frozen=True)
class Oidc:
    url: str

    def token(self, resource: str = AUDIENCE) -> str:
        answer = httpx2.post(
            f"{self.url}/token",
            data={"grant_type": "client_credentials", "resource": resource},
            auth=(WORKLOAD, SECRET),
        )
        token: str = answer.raise_for_status().json()["access_token"]
        return token


@pytest.fixture(scope="module")
def oidc(served: Served, node: Path) -> Iterator[Oidc]:
    port = free_port()
    process = subprocess.Popen(
        [node, "issuer.mjs", str(port), AUDIENCE, WORKLOAD, SECRET],
        cwd=NODE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert "listening" in process.stdout.readline()
        issuer = Oidc(f"http://127.0.0.1:{port}")
        before = served.file.read_text()
        configuration = yaml.safe_load(before)
        configuration["issuers"]["company"] = {"issuer": issuer.url, "audience": AUDIENCE}
        configuration["callers"][CALLER]["identities"].append(
            {"jwt": {"issuer": "company", "claims": {"sub": WORKLOAD}}}
        )
        served.file.write_text(yaml.safe_dump(configuration))
        token = issuer.token()
        # The broker finds the new configuration by itself.
        until(lambda: me(served, token).status_code == 200 or None)
        yield issuer
        served.file.write_text(before)
        process.stdin.close()


def ask(served: Served, method: str, target: str, **more: Any) -> httpx2.Response:
    assert served.broker.tls is not None
    return httpx2.request(method, served.broker.url + target, verify=served.broker.tls, **more)


def me(served: Served, token: str) -> httpx2.Response:
    return ask(served, "GET", "/callers/me", headers={"Authorization": f"Bearer {token}"})


def test_a_caller_is_known_by_his_own_issuers_token(served: Served, oidc: Oidc) -> None:
    document = me(served, oidc.token()).json()
    assert document["caller"] == CALLER
    assert document["identity"]["kind"] == "jwt"
    assert document["identity"]["subject"] == f"company:{WORKLOAD}"


def test_a_token_for_somebody_else_is_refused(served: Served, oidc: Oidc) -> None:
    assert me(served, oidc.token("https://another.internal.example")).status_code == 401


def test_a_token_that_is_no_jwt_is_refused(served: Served, oidc: Oidc) -> None:
    opaque = httpx2.post(
        f"{oidc.url}/token", data={"grant_type": "client_credentials"}, auth=(WORKLOAD, SECRET)
    ).json()["access_token"]
    assert me(served, opaque).status_code == 401


def test_the_token_is_an_assertion_and_can_be_exchanged(served: Served, oidc: Oidc) -> None:
    assertion = {
        "grant_type": "client_credentials",
        "client_id": CALLER,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": oidc.token(),
        "scope": f"{served.base}/.default",
    }
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": oidc.token(),
        "audience": served.base,
    }
    for fields in (assertion, exchange):
        answer = ask(served, "POST", "/oauth2/v2.0/token", data=fields)
        document = answer.raise_for_status().json()
        assert document.get("issued_token_type", "").endswith("access_token") or (
            fields is assertion
        )
        rows = ask(
            served,
            "GET",
            "/environments/contoso/api/data/v9.2/accounts?$select=name&$top=1",
            headers={"Authorization": f"Bearer {document['access_token']}"},
        )
        assert rows.status_code == 200
