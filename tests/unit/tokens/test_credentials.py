from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle
import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi.encoders import jsonable_encoder

from app.config.model import (
    CertificateCredential,
    ClientSecretCredential,
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
from app.tokens.assertions import make_assertion, token_from_file
from app.tokens.credentials import CredentialReader
from app.tokens.failure import Cause
from app.tokens.hidden import Hidden
from app.tokens.key_vault import FoundSecret, FoundSigner, KeyVaults, VaultUnavailable
from app.tokens.managed_identity import ManagedIdentity
from app.tokens.material import Material, Registration
from app.tokens.wire import Unanswered
from tests.unit.tokens.fakes import CLIENT, NOON, FakeSecrets, application, issue, secret_credential

if TYPE_CHECKING:
    from pathlib import Path

VAULT = "https://kv.vault.azure.net"


class FakeVaults:
    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.issued = issue("vault")

    def secret(self, name: KeyVaultName) -> FoundSecret:
        if self.down:
            raise VaultUnavailable(f"the secret {name.name} of {name.vault} cannot be read")
        return FoundSecret(Hidden("from-the-vault"), "v1", NOON + timedelta(days=90))

    def signer(self, name: KeyVaultKeyName) -> FoundSigner:
        if self.down:
            raise VaultUnavailable(f"the certificate {name.certificate} cannot be read")
        return FoundSigner(self.issued.certificate.public_bytes(Encoding.DER), self.sign)

    def sign(self, digest: bytes) -> bytes:
        return self.issued.key.sign(
            digest,
            padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH),
            utils.Prehashed(hashes.SHA256()),
        )


def read(credential: Any, vaults: FakeVaults | None = None, **secrets: str | bytes) -> Material:
    reader = CredentialReader(FakeSecrets(**secrets), vaults)
    return reader.read(application(credential), credential)


def opened(material: Material) -> Any:
    assert material.msal_credential is not None
    return material.msal_credential.open()


@pytest.mark.parametrize("content", ["hunter2", "hunter2\n", "hunter2\r\n"])
def test_a_secret_is_read_without_its_line_end(content: str) -> None:
    material = read(secret_credential("A"), A=content)
    assert opened(material) == "hunter2"
    assert (material.kind, material.id) == ("client_secret", "the environment variable A")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\n", "is empty"), (b"\xff\xfe", "is not text")],
    ids=["empty", "not-text"],
)
def test_a_secret_that_is_none_is_refused_and_not_quoted(content: bytes, says: str) -> None:
    with pytest.raises(Unanswered, match=says) as caught:
        read(secret_credential("A"), A=content)
    assert caught.value.failure.cause is Cause.CREDENTIAL_UNREADABLE
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_secret_ends_when_the_configuration_says() -> None:
    material = read(secret_credential("A", expires=datetime(2027, 3, 31, tzinfo=UTC)), A="s")
    assert material.expires_on == datetime(2027, 3, 31, tzinfo=UTC)


def test_a_secret_in_a_vault_ends_when_the_vault_says_unless_configured() -> None:
    reference = KeyVaultReference(key_vault=KeyVaultName(vault=VAULT, name="erp"))
    material = read(ClientSecretCredential(client_secret=reference), FakeVaults())
    assert opened(material) == "from-the-vault"
    assert material.expires_on == NOON + timedelta(days=90)
    configured = ClientSecretCredential(client_secret=reference, expires=date(2027, 1, 1))
    assert read(configured, FakeVaults()).expires_on == datetime(2027, 1, 1, tzinfo=UTC)


def test_a_vault_that_is_down_makes_the_credential_unreadable() -> None:
    reference = KeyVaultReference(key_vault=KeyVaultName(vault=VAULT, name="erp"))
    signer = KeyVaultSignerCredential(
        key_vault_signer=KeyVaultKeyName(vault=VAULT, certificate="erp")
    )
    for credential in (ClientSecretCredential(client_secret=reference), signer):
        with pytest.raises(Unanswered, match="cannot be read"):
            read(credential, FakeVaults(down=True))
    with pytest.raises(Unanswered, match="key vaults cannot be used") as caught:
        read(signer)
    assert "[azure]" in caught.value.failure.remedy


def test_another_secret_has_another_fingerprint() -> None:
    first, second = read(secret_credential("A"), A="one"), read(secret_credential("A"), A="two")
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == read(secret_credential("A"), A="one").fingerprint


def test_a_certificate_is_signed_with_and_named_as_entra_documents() -> None:
    own = issue()
    credential = CertificateCredential(certificate=EnvReference(env="PEM"))
    material = read(credential, PEM=own.key_pem + own.certificate_pem)
    assert set(opened(material)) == {"private_key", "public_certificate"}
    assert material.id == own.certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303
    assert material.thumbprint_sha256 == own.certificate.fingerprint(hashes.SHA256()).hex()
    assert material.expires_on == NOON + timedelta(days=365)


def test_a_certificate_that_is_none_says_where_it_came_from() -> None:
    credential = CertificateCredential(certificate=EnvReference(env="PEM"))
    with pytest.raises(Unanswered, match="in the environment variable PEM cannot be used"):
        read(credential, PEM="hunter2")


def test_a_vault_signs_an_assertion_that_its_certificate_verifies() -> None:
    vaults = FakeVaults()
    credential = KeyVaultSignerCredential(
        key_vault_signer=KeyVaultKeyName(vault=VAULT, certificate="erp")
    )
    material = read(credential, vaults)
    endpoint = "https://login.microsoftonline.com/t/oauth2/v2.0/token"
    jwt = opened(material)["client_assertion"]({"client_id": "c", "token_endpoint": endpoint})
    head, claims, signature = jwt.split(".")
    vaults.issued.key.public_key().verify(
        base64.urlsafe_b64decode(signature + "=="),
        f"{head}.{claims}".encode(),
        padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH),
        hashes.SHA256(),
    )
    der = vaults.issued.certificate.public_bytes(Encoding.DER)
    x5t = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    assert part(head) == {"alg": "PS256", "typ": "JWT", "x5t#S256": x5t}
    said = part(claims)
    assert (said["aud"], said["iss"], said["sub"]) == (endpoint, "c", "c")
    assert said["exp"] - said["nbf"] == 600
    assert UUID(said["jti"]).version == 4


def part(text: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(base64.urlsafe_b64decode(text + "==")))


def test_an_assertion_is_never_the_same_twice() -> None:
    made = [
        make_assertion(
            client_id="c", audience="a", thumbprint_sha256=b"t", now=1.5, sign=lambda d: d
        )
        for _ in range(2)
    ]
    assert made[0] != made[1]


# ------------------------------------------------------------------ token files


def jwt_ending(end: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": end}).encode()).rstrip(b"=").decode()
    return f"e30.{claims}.c2ln"


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    material = read(FederatedTokenCredential(federated_token=FileReference(file=file)))
    assertion = opened(material)["client_assertion"]
    assert assertion() == "first"
    file.write_text(jwt_ending(time.time() + 60))
    assert assertion() == file.read_text()
    assert (material.kind, material.id) == ("federated_token", str(file))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        (b" \n", "is empty"),
        ("tökén".encode(), "holds no token"),
        (jwt_ending(1_000_000_000).encode(), "nobody renews it"),
    ],
    ids=["missing", "empty", "not-ascii", "expired"],
)
def test_a_token_file_that_holds_none_is_explained(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Unanswered, match=says) as caught:
        token_from_file(file)
    assert caught.value.failure.cause is Cause.CREDENTIAL_UNREADABLE


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "e30.W10.c", "e30.e30.c", "..", "e30.!!.c"])
def test_a_token_whose_end_cannot_be_read_is_entras_to_judge(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    assert token_from_file(file) == text


# ------------------------------------------------------------ managed identities


def test_a_managed_identity_that_is_the_application_needs_no_client() -> None:
    own = ManagedIdentityCredential(managed_identity=ManagedIdentityName(client_id=CLIENT))
    material = read(own)
    assert material.obtain is not None
    assert material.msal_credential is None


@pytest.mark.parametrize("client_id", [None, UUID(int=7)], ids=["system", "user"])
def test_a_managed_identity_that_is_another_asserts_for_the_application(
    client_id: UUID | None,
) -> None:
    other = ManagedIdentityCredential(managed_identity=ManagedIdentityName(client_id=client_id))
    material = read(other)
    assert material.obtain is None
    assert callable(opened(material)["client_assertion"])


@pytest.mark.parametrize(
    ("authority", "audience"),
    [
        ("https://login.microsoftonline.com", "api://AzureADTokenExchange"),
        ("https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"),
        ("https://login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"),
        ("https://127.0.0.1:8443", "api://AzureADTokenExchange"),
    ],
)
def test_a_managed_identity_asks_for_its_clouds_exchange(authority: str, audience: str) -> None:
    assert ManagedIdentity(client_id=None).exchange_audience(authority) == audience


# --------------------------------------------------------------------- not shown


def test_what_holds_a_secret_does_not_show_it() -> None:
    vaults = FakeVaults()
    secret = FoundSecret(Hidden("hunter2"), "v1", None)
    material = read(secret_credential("A"), A="hunter2")
    signer = vaults.signer(KeyVaultKeyName(vault=VAULT, certificate="erp"))
    holders = (Hidden("hunter2"), secret, material, signer, KeyVaults(credential="hunter2"))
    for holder in holders:
        assert "hunter2" not in repr(holder) + str(holder) + f"{holder}"
        encoded = json.dumps(holder, default=str)
        assert "hunter2" not in encoded
        for encode in (msgspec.json.encode, jsonable_encoder):
            try:
                shown = str(encode(holder))
            except (TypeError, ValueError, RecursionError):
                continue
            assert "hunter2" not in shown
    for holder in (Hidden("hunter2"), secret, material):
        with pytest.raises(TypeError):
            pickle.dumps(holder)
        with pytest.raises(TypeError):
            copy.deepcopy(holder)


def test_an_identity_is_the_same_however_it_is_spelled() -> None:
    lower, upper = application(), application()
    upper = upper.model_copy(update={"tenant_id": upper.tenant_id.upper()})
    assert Registration.of(lower) == Registration.of(upper)
