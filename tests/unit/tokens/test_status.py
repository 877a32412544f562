from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from app.config.model import (
    CertificateCredential,
    Credential,
    FederatedTokenCredential,
    FileReference,
    KeyVaultKeyName,
    KeyVaultName,
    KeyVaultReference,
    KeyVaultSignerCredential,
    ManagedIdentityCredential,
    ManagedIdentityName,
)
from app.tokens.status import due_warning, kind_and_place
from tests.unit.tokens.fakes import NOON, secret_credential

VAULT = "https://kv.vault.azure.net"


@pytest.mark.parametrize(
    ("credential", "kind", "place"),
    [
        (secret_credential("A"), "client_secret", "the environment variable A"),
        (
            CertificateCredential(certificate=FileReference(file=Path("erp.pem"))),
            "certificate",
            "the file erp.pem",
        ),
        (
            CertificateCredential(
                certificate=KeyVaultReference(key_vault=KeyVaultName(vault=VAULT, name="erp"))
            ),
            "certificate",
            f"the secret erp of {VAULT}",
        ),
        (
            FederatedTokenCredential(federated_token=FileReference(file=Path("token"))),
            "federated_token",
            "token",
        ),
        (
            ManagedIdentityCredential(managed_identity=ManagedIdentityName()),
            "managed_identity",
            "system-assigned",
        ),
        (
            ManagedIdentityCredential(managed_identity=ManagedIdentityName(client_id=UUID(int=7))),
            "managed_identity",
            str(UUID(int=7)),
        ),
        (
            KeyVaultSignerCredential(
                key_vault_signer=KeyVaultKeyName(vault=VAULT, certificate="erp")
            ),
            "key_vault_signer",
            f"the certificate erp of {VAULT}",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_a_credential_is_named_before_it_is_read(
    credential: Credential, kind: str, place: str
) -> None:
    assert kind_and_place(credential) == (kind, place)


@pytest.mark.parametrize(
    ("left", "warned", "due"),
    [
        (timedelta(days=31), None, None),
        (timedelta(days=30), None, 30),
        (timedelta(days=29), 30, None),
        (timedelta(days=14), 30, 14),
        (timedelta(days=5), None, 7),
        (timedelta(days=5), 7, None),
        (timedelta(hours=3), 7, 1),
        (timedelta(0), 1, 0),
        (timedelta(days=-3), 0, None),
        (timedelta(days=-3), None, 0),
    ],
    ids=str,
)
def test_an_end_is_warned_of_once_for_each_threshold(
    left: timedelta, warned: int | None, due: int | None
) -> None:
    assert due_warning(NOON + left, NOON, warned) == due
