from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from app.sandbox.credentials import self_signed_pem
from app.sandbox.entra import faults, jws
from app.sandbox.keyvault import KeyVaultApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VAULT = "https://vault.example"
HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
APPID = "5c2e9d10-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def pem() -> bytes:
    return self_signed_pem(common_name="erp", now=NOON)


@pytest.fixture
def vault() -> KeyVaultApp:
    def verify(token: str) -> dict[str, Any] | None:
        return {"appid": APPID} if token == "good" else None

    return KeyVaultApp(
        public_url=VAULT,
        authority="https://entra.example/tenant",
        verify=verify,
        clock=lambda: NOON,
    )


@pytest.fixture
async def client(vault: KeyVaultApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=vault),
        base_url=VAULT,
        headers={"authorization": "Bearer good"},
        params={"api-version": "2026-04-01"},
    ) as client:
        yield client


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("authorization", ["", "Bearer bad", "Basic good"])
async def test_the_first_answer_is_a_challenge(
    client: httpx2.AsyncClient, vault: KeyVaultApp, authorization: str
) -> None:
    vault.put_secret("erp", "hunter2")
    answer = await client.get("/secrets/erp", headers={"authorization": authorization})
    assert code(answer) == (401, "Unauthorized")
    assert answer.headers["www-authenticate"] == (
        'Bearer authorization="https://entra.example/tenant", resource="https://vault.azure.net"'
    )
    assert vault.requests == 0


async def test_the_latest_version_of_a_secret_is_read(
    client: httpx2.AsyncClient, vault: KeyVaultApp
) -> None:
    old = vault.put_secret("erp", "hunter1")
    new = vault.put_secret("erp", "hunter2", expires=NOON + timedelta(days=1))
    for path in ("/secrets/erp", "/secrets/erp/", f"/secrets/erp/{new}"):
        assert (await client.get(path)).json() == {
            "value": "hunter2",
            "contentType": "text/plain",
            "id": f"{VAULT}/secrets/erp/{new}",
            "attributes": {
                "enabled": True,
                "created": 1772366400,
                "updated": 1772366400,
                "recoveryLevel": "Recoverable+Purgeable",
                "exp": 1772452800,
            },
            "tags": {},
        }
    assert (await client.get(f"/secrets/erp/{old}")).json()["value"] == "hunter1"


async def test_what_is_not_there_is_404(client: httpx2.AsyncClient, vault: KeyVaultApp) -> None:
    vault.put_secret("erp", "hunter2")
    assert code(await client.get("/secrets/other")) == (404, "SecretNotFound")
    assert code(await client.get("/secrets/erp/0000")) == (404, "SecretNotFound")
    assert code(await client.get("/certificates/erp")) == (404, "CertificateNotFound")
    assert code(await client.get("/keys/erp")) == (404, "KeyNotFound")
    assert code(await client.get("/secrets")) == (404, "ResourceNotFound")
    assert code(await client.put("/secrets/erp")) == (404, "ResourceNotFound")
    vault.delete("erp")
    assert code(await client.get("/secrets/erp")) == (404, "SecretNotFound")


async def test_a_disabled_secret_is_403(client: httpx2.AsyncClient, vault: KeyVaultApp) -> None:
    vault.put_secret("erp", "hunter2")
    vault.disable("erp")
    answer = await client.get("/secrets/erp")
    assert code(answer) == (403, "Forbidden")
    assert answer.json()["error"]["innererror"] == {"code": "SecretDisabled"}


async def test_an_identity_without_a_role_is_403(
    client: httpx2.AsyncClient, vault: KeyVaultApp
) -> None:
    vault.put_secret("erp", "hunter2")
    vault.forbidden = frozenset({APPID})
    assert code(await client.get("/secrets/erp")) == (403, "Forbidden")


async def test_a_request_names_its_api_version(
    client: httpx2.AsyncClient, vault: KeyVaultApp
) -> None:
    vault.put_secret("erp", "hunter2")
    answer = await client.get("/secrets/erp", params={"api-version": ""})
    assert code(answer) == (400, "BadParameter")


async def test_a_certificate_is_public_at_one_address_and_whole_at_the_other(
    client: httpx2.AsyncClient, vault: KeyVaultApp, pem: bytes
) -> None:
    version = vault.put_certificate("erp", pem)
    certificate = x509.load_pem_x509_certificate(pem)
    public = (await client.get("/certificates/erp/")).json()
    assert public.pop("attributes")["exp"] == int(certificate.not_valid_after_utc.timestamp())
    assert x509.load_der_x509_certificate(base64.b64decode(public.pop("cer"))) == certificate
    assert public == {
        "id": f"{VAULT}/certificates/erp/{version}",
        "kid": f"{VAULT}/keys/erp/{version}",
        "sid": f"{VAULT}/secrets/erp/{version}",
        "x5t": jws.b64url(certificate.fingerprint(hashes.SHA1())),  # noqa: S303 - what x5t is
        "tags": {},
    }
    secret = (await client.get("/secrets/erp")).json()
    assert (secret["contentType"], secret["managed"]) == ("application/x-pkcs12", True)
    key, found, _ = pkcs12.load_key_and_certificates(base64.b64decode(secret["value"]), None)
    assert found == certificate
    assert isinstance(key, rsa.RSAPrivateKey)


async def test_a_certificate_may_be_kept_as_pem(
    client: httpx2.AsyncClient, vault: KeyVaultApp, pem: bytes
) -> None:
    vault.put_certificate("erp", pem, as_pem=True)
    secret = (await client.get("/secrets/erp")).json()
    assert secret["contentType"] == "application/x-pem-file"
    assert secret["value"].encode() == pem


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "PS384", "RS512"])
async def test_a_key_signs_a_digest(
    client: httpx2.AsyncClient, vault: KeyVaultApp, pem: bytes, algorithm: str
) -> None:
    version = vault.put_certificate("erp", pem)
    hashing = HASHES[algorithm[2:]]
    digest = hashlib.new(f"sha{algorithm[2:]}", b"message").digest()
    body = {"alg": algorithm, "value": jws.b64url(digest)}
    public = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    scheme: Any = padding.PKCS1v15()
    if algorithm.startswith("PS"):
        scheme = padding.PSS(padding.MGF1(hashing), padding.PSS.DIGEST_LENGTH)
    for path in ("/keys/erp/sign", f"/keys/erp/{version}/sign"):
        answer = (await client.post(path, json=body)).json()
        assert answer["kid"] == f"{VAULT}/keys/erp/{version}"
        public.verify(jws.from_b64url(answer["value"]), b"message", scheme, hashing)


async def test_a_key_shows_its_public_half_alone(
    client: httpx2.AsyncClient, vault: KeyVaultApp, pem: bytes
) -> None:
    version = vault.put_certificate("erp", pem)
    content = (await client.get("/keys/erp")).json()
    assert set(content["key"]) == {"kty", "kid", "n", "e", "key_ops"}
    assert content["key"]["kid"] == f"{VAULT}/keys/erp/{version}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"alg":"PS256"}',
        b'{"alg":"PS256","value":"e30"}',
        b'{"alg":"ES256","value":"e30"}',
        b'{"alg":"PS999","value":"e30"}',
        b'{"alg":null,"value":"e30"}',
        b'{"alg":"PS256","value":null}',
    ],
)
async def test_a_key_does_not_sign_what_is_no_digest(
    client: httpx2.AsyncClient, vault: KeyVaultApp, pem: bytes, body: bytes
) -> None:
    vault.put_certificate("erp", pem)
    assert code(await client.post("/keys/erp/sign", content=body)) == (400, "BadParameter")


async def test_a_vault_can_be_told_to_fail(client: httpx2.AsyncClient, vault: KeyVaultApp) -> None:
    vault.put_secret("erp", "hunter2")
    vault.faults.add(faults.unavailable(times=1))
    assert (await client.get("/secrets/erp")).status_code == 503
    assert (await client.get("/secrets/erp")).status_code == 200


async def test_a_version_does_not_show_its_secret(vault: KeyVaultApp, pem: bytes) -> None:
    vault.put_secret("erp", "hunter2")
    vault.put_certificate("erp", pem, as_pem=True)
    assert "hunter2" not in repr(vault._secrets)
    assert "PRIVATE" not in repr(vault._secrets)
