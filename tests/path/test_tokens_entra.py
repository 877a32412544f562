"""Credentials of every kind through real MSAL, against the emulated Entra over TLS."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretBytes

from app.config.model import (
    Application,
    CertificateCredential,
    ClientSecretCredential,
    Credential,
    EnvReference,
    FederatedTokenCredential,
    FileReference,
    KeyVaultKeyName,
    KeyVaultName,
    KeyVaultReference,
    KeyVaultSignerCredential,
    ManagedIdentityCredential,
    ManagedIdentityName,
)
from app.errors import Misconfigured
from app.sandbox.credentials import (
    MANAGED_IDENTITY_CLIENT_ID,
    WITH_CERTIFICATE,
    WITH_SECRET,
    self_signed_pem,
)
from app.sandbox.entra import faults, jws
from app.sandbox.entra.directory import (
    ClientSecret,
    FederatedCredential,
    RegisteredApplication,
    RegisteredCertificate,
    Resource,
)
from app.sandbox.run import Sandbox, sandbox_in_thread
from app.tokens.entra import MsalEntra
from app.tokens.failure import TokenUnavailable
from app.tokens.key_vault import KeyVaults
from app.tokens.service import TokenService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from app.tokens.lease import Lease

pytestmark = pytest.mark.anyio


class Secrets:
    def __init__(self, **values: str) -> None:
        self.values = values

    def data(self, reference: EnvReference | FileReference | KeyVaultReference) -> SecretBytes:
        match reference:
            case EnvReference(env=name):
                return SecretBytes(self.values[name].encode())
            case FileReference(file=path):
                return SecretBytes(path.read_bytes())
            case _:
                raise Misconfigured("secret-missing", "a vault is not asked through here")


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with sandbox_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Iterator[Sandbox]:
    """As it was at its start, whatever the test before did to it."""
    registered = running.tenant.applications
    before = {
        name: (application.secrets, application.certificates, application.enabled)
        for name, application in registered.items()
    }
    running.entra.token_requests = 0
    yield running
    running.entra.faults.clear()
    running.key_vault.faults.clear()
    running.managed_identity.faults.clear()
    for name, (secrets, certificates, enabled) in before.items():
        application = registered[name]
        application.secrets, application.certificates = secrets, certificates
        application.enabled, application.federated = enabled, ()


@pytest.fixture
async def services() -> AsyncIterator[list[TokenService]]:
    opened: list[TokenService] = []
    yield opened
    for service in opened:
        await service.aclose()


@pytest.fixture
def vaults(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyVaults]:
    as_managed_identity(sandbox, monkeypatch)
    vaults = KeyVaults(ca_file=sandbox.ca_file)
    yield vaults
    vaults.close()


def as_managed_identity(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{sandbox.managed_identity_url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", sandbox.managed_identity.identity_header)


def application(
    sandbox: Sandbox, *credentials: Credential, name: str = WITH_SECRET, **other: Any
) -> Application:
    held = sandbox.applications[name]
    fields = {
        "tenant_id": held.tenant_id,
        "client_id": UUID(held.client_id),
        "authority": sandbox.entra_url,
        "ca_file": sandbox.ca_file,
    }
    return Application.model_validate({**fields, "credentials": credentials, **other})


def service_for(
    app: Application,
    services: list[TokenService],
    secrets: Secrets | None = None,
    vaults: KeyVaults | None = None,
) -> TokenService:
    service = TokenService({"erp": app}, secrets or Secrets(), entra=MsalEntra(), vaults=vaults)
    services.append(service)
    return service


def claims_of(sandbox: Sandbox, lease: Lease) -> Mapping[str, Any]:
    """What the token says, its signature checked by the Entra that made it."""
    claims = sandbox.entra.verify(lease.access_token(), sandbox.environment_url)
    assert claims is not None
    return claims


def registered(sandbox: Sandbox, name: str = WITH_SECRET) -> RegisteredApplication:
    found = sandbox.tenant.application(sandbox.applications[name].client_id)
    assert found is not None
    return found


def secret(name: str = "SECRET") -> ClientSecretCredential:
    return ClientSecretCredential(client_secret=EnvReference(env=name))


def good_secret(sandbox: Sandbox) -> str:
    value = sandbox.applications[WITH_SECRET].client_secret
    assert value is not None
    return value


# ------------------------------------------------------------------ credentials


async def test_a_client_secret_obtains_a_lease(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    service = service_for(
        application(sandbox, secret()), services, Secrets(SECRET=good_secret(sandbox) + "\n")
    )
    lease = await service.lease("erp", sandbox.environment_url)
    assert claims_of(sandbox, lease)["appid"] == sandbox.applications[WITH_SECRET].client_id
    left = lease.expires_on - datetime.now(UTC)
    assert timedelta(minutes=59) < left < timedelta(minutes=91)
    (status,) = service.status()
    assert (status.kind, status.active) == ("client_secret", True)
    assert status.last_success is not None


async def test_a_wrong_secret_is_explained(sandbox: Sandbox, services: list[TokenService]) -> None:
    service = service_for(
        application(sandbox, secret()), services, Secrets(SECRET="not-the-secret")
    )
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", sandbox.environment_url)
    error = caught.value
    assert error.extra["aadsts"] == "AADSTS7000215"
    assert error.extra["entra_error"] == "invalid_client"
    assert error.extra["cause"] == "credential-refused"
    assert "not-the-secret" not in str(error) + json.dumps(error.extra)


async def test_a_pem_certificate_obtains_a_lease(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    files = sandbox.applications[WITH_CERTIFICATE].certificate
    assert files is not None
    credential = CertificateCredential(certificate=FileReference(file=files.pem_file))
    service = service_for(application(sandbox, credential, name=WITH_CERTIFICATE), services)
    lease = await service.lease("erp", sandbox.environment_url)
    assert claims_of(sandbox, lease)["appidacr"] == "2"
    (status,) = service.status()
    assert status.kind == "certificate"
    assert status.id == files.thumbprint
    assert status.expires_on == files.certificate.not_valid_after_utc
    assert sandbox.entra.journal[-1].proof == "certificate"


async def test_a_pfx_certificate_obtains_a_lease(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    files = sandbox.applications[WITH_CERTIFICATE].certificate
    assert files is not None
    credential = CertificateCredential(
        certificate=FileReference(file=files.pfx_file), passphrase=EnvReference(env="PASSPHRASE")
    )
    service = service_for(
        application(sandbox, credential, name=WITH_CERTIFICATE),
        services,
        Secrets(PASSPHRASE=files.pfx_passphrase),
    )
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))


async def test_a_certificate_that_is_not_registered_is_explained(
    sandbox: Sandbox, services: list[TokenService], tmp_path: Path
) -> None:
    pem = tmp_path / "stranger.pem"
    pem.write_bytes(self_signed_pem(common_name="stranger", now=datetime.now(UTC)))
    credential = CertificateCredential(certificate=FileReference(file=pem))
    service = service_for(application(sandbox, credential, name=WITH_CERTIFICATE), services)
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", sandbox.environment_url)
    assert caught.value.extra["aadsts"] == "AADSTS700027"


async def test_a_federated_token_is_read_again_for_each_request(
    sandbox: Sandbox, services: list[TokenService], tmp_path: Path
) -> None:
    pem = self_signed_pem(common_name="cluster", now=datetime.now(UTC))
    key = load_pem_private_key(pem, password=None)
    subject = "system:serviceaccount:erp:broker"
    registered(sandbox).federated = (
        FederatedCredential(
            issuer="https://cluster.example",
            subject=subject,
            jwks={"keys": [jws.to_jwk(key.public_key(), key_id="k1")]},  # type: ignore[arg-type]
        ),
    )

    def project(lifetime: timedelta) -> None:
        now = datetime.now(UTC)
        claims = {
            "iss": "https://cluster.example",
            "sub": subject,
            "aud": ["api://AzureADTokenExchange"],
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
        }
        token.write_text(jws.sign(claims, key, header={"kid": "k1"}))  # type: ignore[arg-type]

    token = tmp_path / "token"
    credential = FederatedTokenCredential(federated_token=FileReference(file=token))
    service = service_for(application(sandbox, credential), services)

    with pytest.raises(TokenUnavailable, match="cannot be read"):
        await service.lease("erp", sandbox.environment_url)
    project(timedelta(hours=-1))
    service.forget("erp")
    with pytest.raises(TokenUnavailable, match="nobody renews it"):
        await service.lease("erp", sandbox.environment_url)
    project(timedelta(hours=1))
    service.forget("erp")
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))
    assert sandbox.entra.journal[-1].proof == "federated"
    assert sandbox.entra.token_requests == 1


async def test_a_managed_identity_that_is_the_application_asks_for_itself(
    sandbox: Sandbox, services: list[TokenService], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_managed_identity(sandbox, monkeypatch)
    own = UUID(MANAGED_IDENTITY_CLIENT_ID)
    credential = ManagedIdentityCredential(managed_identity=ManagedIdentityName(client_id=own))
    service = service_for(application(sandbox, credential, client_id=own), services)
    lease = await service.lease("erp", sandbox.environment_url)
    assert claims_of(sandbox, lease)["appid"] == MANAGED_IDENTITY_CLIENT_ID
    assert sandbox.entra.token_requests == 0


async def test_a_managed_identity_stands_for_the_application(
    sandbox: Sandbox, services: list[TokenService], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_managed_identity(sandbox, monkeypatch)
    exchange = "api://AzureADTokenExchange"
    sandbox.tenant.add_resource(Resource(uri=exchange, version="2.0"))
    identity = sandbox.tenant.application(MANAGED_IDENTITY_CLIENT_ID)
    assert identity is not None
    issuer = f"{sandbox.entra_url}/{sandbox.tenant_id}/v2.0"
    registered(sandbox).federated = (
        FederatedCredential(
            issuer=issuer,
            subject=identity.object_id,
            jwks=sandbox.entra.keys.jwks(issuer=issuer),
        ),
    )
    credential = ManagedIdentityCredential(managed_identity=ManagedIdentityName())
    service = service_for(application(sandbox, credential), services)
    lease = await service.lease("erp", sandbox.environment_url)
    assert claims_of(sandbox, lease)["appid"] == sandbox.applications[WITH_SECRET].client_id
    assert sandbox.entra.journal[-1].proof == "federated"


async def test_a_managed_identity_that_is_not_there_lets_the_next_credential_try(
    sandbox: Sandbox, services: list[TokenService], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_managed_identity(sandbox, monkeypatch)
    nobody = ManagedIdentityName(client_id=UUID(int=1))
    service = service_for(
        application(sandbox, ManagedIdentityCredential(managed_identity=nobody), secret()),
        services,
        Secrets(SECRET=good_secret(sandbox)),
    )
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))
    first, second = service.status()
    assert (first.state, second.state) == ("refused", "active")
    assert first.last_error is not None
    assert "managed identity" in first.last_error


# -------------------------------------------------------------------- key vault


async def test_a_secret_from_a_key_vault_obtains_a_lease(
    sandbox: Sandbox, services: list[TokenService], vaults: KeyVaults
) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=90)
    sandbox.key_vault.put_secret("erp-secret", good_secret(sandbox), expires=end)
    service = service_for(
        application(sandbox, in_vault(sandbox, "erp-secret")), services, vaults=vaults
    )
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))
    (status,) = service.status()
    assert status.expires_on == end
    assert "erp-secret" in status.id


def in_vault(sandbox: Sandbox, name: str) -> ClientSecretCredential:
    vault = KeyVaultName(vault=sandbox.key_vault_url, name=name)
    return ClientSecretCredential(client_secret=KeyVaultReference(key_vault=vault))


@pytest.mark.parametrize("as_pem", [False, True], ids=["pfx", "pem"])
async def test_a_certificate_from_a_key_vault_obtains_a_lease(
    sandbox: Sandbox, services: list[TokenService], vaults: KeyVaults, *, as_pem: bool
) -> None:
    pem = self_signed_pem(common_name="vault", now=datetime.now(UTC))
    sandbox.key_vault.put_certificate("erp-certificate", pem, as_pem=as_pem)
    registered(sandbox).certificates = (RegisteredCertificate.from_pem(pem),)
    vault = KeyVaultName(vault=sandbox.key_vault_url, name="erp-certificate")
    credential = CertificateCredential(certificate=KeyVaultReference(key_vault=vault))
    service = service_for(application(sandbox, credential), services, vaults=vaults)
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))


async def test_a_key_that_never_leaves_the_vault_obtains_a_lease(
    sandbox: Sandbox, services: list[TokenService], vaults: KeyVaults
) -> None:
    pem = self_signed_pem(common_name="vault", now=datetime.now(UTC))
    sandbox.key_vault.put_certificate("erp-signer", pem)
    certificate = RegisteredCertificate.from_pem(pem)
    registered(sandbox).certificates = (certificate,)
    signer = KeyVaultKeyName(vault=sandbox.key_vault_url, certificate="erp-signer")
    service = service_for(
        application(sandbox, KeyVaultSignerCredential(key_vault_signer=signer)),
        services,
        vaults=vaults,
    )
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))
    (status,) = service.status()
    assert status.kind == "key_vault_signer"
    assert status.id == certificate.thumbprint().hex().upper()
    assert status.expires_on == certificate.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda s: s.key_vault.delete("erp-secret"), "nothing of this name"),
        (lambda s: s.key_vault.disable("erp-secret"), "forbids it"),
        (lambda s: s.key_vault.faults.add(faults.unavailable()), "HTTP 503"),
        (lambda s: s.key_vault.faults.add(faults.dropped()), "cannot be reached"),
        (lambda s: s.key_vault.faults.add(faults.garbage(b"{}")), "is empty"),
    ],
    ids=["deleted", "disabled", "unavailable", "cut", "empty-answer"],
)
async def test_a_vault_that_fails_lets_the_next_credential_try(
    sandbox: Sandbox, services: list[TokenService], vaults: KeyVaults, break_it: Any, says: str
) -> None:
    sandbox.key_vault.put_secret("erp-secret", good_secret(sandbox))
    break_it(sandbox)
    service = service_for(
        application(sandbox, in_vault(sandbox, "erp-secret"), secret()),
        services,
        Secrets(SECRET=good_secret(sandbox)),
        vaults,
    )
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))
    first, second = service.status()
    assert (first.state, second.state) == ("refused", "active")
    assert says in (first.last_error or "")


# --------------------------------------------------------------------- failover


async def test_an_expired_secret_gives_way_to_the_next_credential(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    registered(sandbox).secrets += (ClientSecret(value="an-old-secret", expires=yesterday),)
    service = service_for(
        application(sandbox, secret("OLD"), secret("NEW")),
        services,
        Secrets(OLD="an-old-secret", NEW=good_secret(sandbox)),
    )
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))
    assert [entry.code for entry in sandbox.entra.journal][-2:] == [7000222, None]
    first, second = service.status()
    assert (first.state, second.state) == ("refused", "active")
    assert first.last_error == "the client secret has expired (AADSTS7000222, invalid_client)"
    assert first.next_try is not None


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (700016, "application-refused"),
        (7000112, "application-refused"),
        (500011, "resource-refused"),
        (53003, "application-refused"),
    ],
)
async def test_a_refusal_that_no_credential_changes_is_not_tried_with_the_next(
    sandbox: Sandbox, services: list[TokenService], code: int, cause: str
) -> None:
    sandbox.entra.faults.add(faults.refused(code))
    service = service_for(
        application(sandbox, secret("A"), secret("B")),
        services,
        Secrets(A=good_secret(sandbox), B=good_secret(sandbox)),
    )
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", sandbox.environment_url)
    assert caught.value.extra["aadsts"] == f"AADSTS{code}"
    assert caught.value.extra["cause"] == cause
    assert sandbox.entra.token_requests == 1


async def test_a_tenant_that_does_not_exist_is_explained(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    service = service_for(
        application(sandbox, secret(), tenant_id="nobody.example"),
        services,
        Secrets(SECRET="any"),
    )
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", sandbox.environment_url)
    assert caught.value.extra["aadsts"] == "AADSTS90002"


async def test_an_authority_with_a_foreign_certificate_gets_no_secret(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    service = service_for(
        application(sandbox, secret(), ca_file=None),
        services,
        Secrets(SECRET=good_secret(sandbox)),
    )
    with pytest.raises(TokenUnavailable, match="is not trusted") as caught:
        await service.lease("erp", sandbox.environment_url)
    assert "ca_file" in caught.value.extra["remedy"]
    assert sandbox.entra.token_requests == 0


async def test_an_authority_over_plain_http_gets_no_secret(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    plain = application(sandbox, secret()).model_copy(
        update={"authority": "http://login.example"}  # no configuration gets as far as this
    )
    service = service_for(plain, services, Secrets(SECRET=good_secret(sandbox)))
    with pytest.raises(TokenUnavailable, match="not https"):
        await service.lease("erp", sandbox.environment_url)


async def test_the_environment_overrides_neither_ca_nor_credentials(
    sandbox: Sandbox,
    services: list[TokenService],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(self_signed_pem(common_name="other", now=datetime.now(UTC)))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("NETRC", str(netrc))
    service = service_for(
        application(sandbox, secret()), services, Secrets(SECRET=good_secret(sandbox))
    )
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))


# ------------------------------------------------------------------- bad answers


def jwt_like(**parts: Any) -> bytes:
    return json.dumps({"token_type": "Bearer", "expires_in": 3600} | parts).encode()


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (faults.throttled(retry_after_s=7, times=1), "entra-throttled"),
        (faults.throttled_in_prose(retry_after_s=7, times=1), "entra-throttled"),
        (faults.unavailable(retry_after_s=7, times=1), "entra-unreachable"),
        (faults.unavailable(times=1), "entra-unreachable"),
        (faults.dropped(times=1), "entra-unreachable"),
        (faults.garbage(times=1), "entra-malformed"),
        (faults.garbage(b"", times=1), "entra-malformed"),
        (faults.garbage(b"[]", times=1), "entra-malformed"),
        (faults.garbage(b"{}", times=1), "entra-malformed"),
        (faults.garbage(b"[" * 100_000, times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token=""), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token="a\r\nX: b"), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token=7), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token="t", token_type="MAC"), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token="t", expires_in="soon"), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token="t", expires_in=None), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token="t", expires_in=30), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token="t", expires_in=10**12), times=1), "entra-malformed"),
        (faults.garbage(jwt_like(access_token="t", refresh_in="x"), times=1), "entra-malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_answer_is_a_failure_that_a_repaired_entra_ends(
    sandbox: Sandbox, services: list[TokenService], fault: faults.Fault, cause: str
) -> None:
    sandbox.entra.faults.add(fault)
    service = service_for(
        application(sandbox, secret()), services, Secrets(SECRET=good_secret(sandbox))
    )
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", sandbox.environment_url)
    assert caught.value.extra["cause"] == cause
    asked_to_wait = fault.answer is not None and fault.answer.headers
    assert caught.value.retry_after_s == (7 if asked_to_wait else 1)
    # MSAL would answer from its own memory for 5 to 60 s; nothing of it is in the way.
    service.forget("erp")
    assert claims_of(sandbox, await service.lease("erp", sandbox.environment_url))


async def test_no_log_shows_what_a_malformed_answer_held(
    sandbox: Sandbox,
    services: list[TokenService],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sandbox.entra.faults.add(faults.garbage(b'{"access_token":"hunter2-token"'))
    service = service_for(
        application(sandbox, secret()), services, Secrets(SECRET=good_secret(sandbox))
    )
    with caplog.at_level("DEBUG"), pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", sandbox.environment_url)
    printed = capsys.readouterr()
    for text in (caplog.text, printed.out, printed.err, str(caught.value)):
        assert "hunter2" not in text
        assert good_secret(sandbox) not in text


async def test_no_log_shows_a_secret_an_assertion_or_a_token(
    sandbox: Sandbox,
    services: list[TokenService],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = service_for(
        application(sandbox, secret()), services, Secrets(SECRET=good_secret(sandbox))
    )
    with caplog.at_level("DEBUG"):
        lease = await service.lease("erp", sandbox.environment_url)
    printed = capsys.readouterr()
    for text in (caplog.text, printed.out, printed.err, repr(service.status())):
        assert lease.access_token() not in text
        assert good_secret(sandbox) not in text


async def test_a_thousand_callers_on_a_cold_cache_are_one_request_for_each_key(
    sandbox: Sandbox, services: list[TokenService]
) -> None:
    other = "https://other.crm4.dynamics.com"
    sandbox.tenant.add_resource(Resource(uri=other))
    service = service_for(
        application(sandbox, secret()), services, Secrets(SECRET=good_secret(sandbox))
    )
    wanted = [sandbox.environment_url, other] * 500
    leases = await asyncio.gather(*(service.lease("erp", resource) for resource in wanted))
    assert len({lease.fingerprint for lease in leases}) == 2
    assert sandbox.entra.token_requests == 2


async def test_the_assertion_is_what_entra_documents(
    sandbox: Sandbox, services: list[TokenService], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.tokens.wire import Wire

    sent: list[dict[str, Any]] = []
    post = Wire.post

    def noted(self: Wire, url: str, **options: Any) -> Any:
        sent.append(dict(options["data"]))
        return post(self, url, **options)

    monkeypatch.setattr(Wire, "post", noted)
    files = sandbox.applications[WITH_CERTIFICATE].certificate
    assert files is not None
    credential = CertificateCredential(certificate=FileReference(file=files.pem_file))
    service = service_for(application(sandbox, credential, name=WITH_CERTIFICATE), services)
    await service.lease("erp", sandbox.environment_url)
    (form,) = sent
    assertion = bytes(form["client_assertion"])
    head = json.loads(base64.urlsafe_b64decode(assertion.split(b".")[0] + b"=="))
    assert head["alg"] == "PS256"
    assert "x5t#S256" in head
    assert "x5t" not in head
    assert form["scope"] == f"{sandbox.environment_url}/.default"


# --------------------------------------------------------------------- rotation


async def test_a_rotation_while_requests_run_loses_none(
    sandbox: Sandbox, services: list[TokenService], tmp_path: Path
) -> None:
    """A certificate follows a secret, each step as an operator takes it, under load."""
    app = registered(sandbox)
    pem = tmp_path / "new.pem"
    pem.write_bytes(self_signed_pem(common_name="new", now=datetime.now(UTC)))
    old, new = secret(), CertificateCredential(certificate=FileReference(file=pem))
    secrets = Secrets(SECRET=good_secret(sandbox))
    service = service_for(application(sandbox, old), services, secrets)
    served: list[str] = []
    running = True

    async def call() -> None:
        while running:
            lease = service.lease_now("erp", sandbox.environment_url)
            lease = lease or await service.lease("erp", sandbox.environment_url)
            served.append(lease.fingerprint)
            await asyncio.sleep(0.002)

    async def renewed(times: int) -> None:
        for _ in range(times):
            service.forget("erp")
            await service.lease("erp", sandbox.environment_url)
            await asyncio.sleep(0.01)

    calls = [asyncio.create_task(call()) for _ in range(20)]
    await renewed(3)
    service.reload({"erp": application(sandbox, new, old)}, secrets)
    await renewed(3)
    app.certificates = (RegisteredCertificate.from_pem(pem.read_bytes()),)
    await renewed(3)
    app.secrets = ()
    await renewed(3)
    service.reload({"erp": application(sandbox, new)}, secrets)
    await renewed(3)
    running = False
    await asyncio.gather(*calls)
    assert len(served) > 200
    assert len(set(served)) >= 15
    assert sandbox.entra.journal[-1].proof == "certificate"
    (status,) = service.status()
    assert (status.kind, status.state) == ("certificate", "active")
