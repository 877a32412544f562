from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import BrokerError, Unavailable
from app.web.discovery import Discovery

if TYPE_CHECKING:
    from app.web.asgi import RequestHead

pytestmark = pytest.mark.anyio

BROKER = "https://broker.internal.example:8443"
TENANT = "8b1f7a52-0c52-4d1c-9f4e-2b0b3c0f6f11"


@dataclass
class Path:
    answered_with: list[tuple[int, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    disk_full: bool = False

    async def answered(self, _head: RequestHead, *, status: int, bytes_out: int) -> None:
        if self.disk_full:
            raise Unavailable("record-unavailable", "the disk is full")
        self.answered_with.append((status, bytes_out))

    async def refuse(self, _head: RequestHead, error: BrokerError) -> None:
        self.refused.append(error.code)

    def jwks(self) -> bytes:
        return b'{"keys":[]}'


def app(path: Path) -> Discovery:
    return Discovery(
        public_url=lambda: BROKER, keys=path, visits=path, refusals=path, algorithms=("EdDSA",)
    )


async def test_the_brokers_own_document_names_its_endpoints(call: Any) -> None:
    path = Path()
    seen = await call(
        app(path), b"/.well-known/openid-configuration", headers=[(b"host", b"evil.example")]
    )
    assert seen.json() == {
        "issuer": BROKER,
        "token_endpoint": f"{BROKER}/oauth2/v2.0/token",
        "authorization_endpoint": f"{BROKER}/oauth2/v2.0/authorize",
        "jwks_uri": f"{BROKER}/.well-known/jwks.json",
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "client_secret_basic",
            "private_key_jwt",
        ],
        "token_endpoint_auth_signing_alg_values_supported": [
            "RS256",
            "RS384",
            "RS512",
            "PS256",
            "PS384",
            "PS512",
            "ES256",
            "ES384",
            "EdDSA",
        ],
        "grant_types_supported": [
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ],
        "response_types_supported": ["none"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "EdDSA"],
    }
    assert seen.headers["cache-control"] == "public, max-age=300"
    assert path.answered_with == [(200, len(seen.body))]


async def test_a_tenants_document_names_the_tenants_endpoint(call: Any) -> None:
    target = f"/{TENANT}/v2.0/.well-known/openid-configuration".encode()
    document = (await call(app(Path()), target)).json()
    assert document["issuer"] == f"{BROKER}/{TENANT}/v2.0"
    assert document["token_endpoint"] == f"{BROKER}/{TENANT}/oauth2/v2.0/token"
    assert document["jwks_uri"] == f"{BROKER}/.well-known/jwks.json"


async def test_keys_are_given_out(call: Any) -> None:
    assert (await call(app(Path()), b"/.well-known/jwks.json")).json() == {"keys": []}


@pytest.mark.parametrize("host", ["broker.internal.example:8443", "broker.internal.example"])
async def test_the_broker_knows_itself_as_an_authority(call: Any, host: str) -> None:
    asked = f"https://{host}/{TENANT}/oauth2/v2.0/authorize"
    target = f"/common/discovery/instance?api-version=1.0&authorization_endpoint={asked}"
    assert (await call(app(Path()), target.encode())).json() == {
        "tenant_discovery_endpoint": f"{BROKER}/{TENANT}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [
            {
                "preferred_network": "broker.internal.example:8443",
                "preferred_cache": "broker.internal.example:8443",
                "aliases": ["broker.internal.example:8443", "broker.internal.example"],
            }
        ],
    }


@pytest.mark.parametrize(
    "asked",
    [
        "https://evil.example/t/oauth2/v2.0/authorize",
        "http://broker.internal.example:8443/t/oauth2/v2.0/authorize",
        "https://broker.internal.example:8443/t/x/oauth2/v2.0/authorize",
        "https://broker.internal.example:8443/../oauth2/v2.0/authorize?x",
        "https://[",
        "",
    ],
)
async def test_the_broker_vouches_for_no_other_authority(call: Any, asked: str) -> None:
    path = Path()
    target = f"/common/discovery/instance?authorization_endpoint={asked}"
    seen = await call(app(path), target.encode())
    assert (seen.status, path.refused, path.answered_with) == (400, ["bad-query"], [])


async def test_documents_are_only_read(call: Any) -> None:
    path = Path()
    seen = await call(app(path), b"/.well-known/jwks.json", method="POST")
    assert (seen.status, path.refused) == (405, ["method-not-allowed"])


async def test_nothing_leaves_that_cannot_be_recorded(call: Any) -> None:
    with pytest.raises(Unavailable):
        await call(app(Path(disk_full=True)), b"/.well-known/jwks.json")
