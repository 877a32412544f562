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
from app.tokens.failure import Cause
from app.tokens.status import CredentialStatus, State, due_warning, kind_and_place, trouble
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


def told(
    *, ends_in: timedelta | None = None, cause: Cause | None = None, state: State = "active"
) -> str | None:
    status = CredentialStatus(
        application="erp",
        position=1,
        kind="client_secret",
        id="the file /run/secrets/erp",
        thumbprint_sha256=None,
        state=state,
        expires_on=None if ends_in is None else NOON + ends_in,
        last_success=None,
        last_error=None,
        last_error_at=None,
        last_cause=cause,
        remedy=None,
        next_try=None,
    )
    return trouble(status, NOON)


@pytest.mark.parametrize(
    ("ends_in", "said"),
    [
        (timedelta(days=14), "erp credentials[1] (client_secret) expires on 2026-12-08"),
        (timedelta(days=14, seconds=1), None),
        (timedelta(0), "erp credentials[1] (client_secret) has expired on 2026-11-24"),
        (None, None),
    ],
    ids=["in-14-days", "later", "now", "unknown"],
)
def test_a_credential_that_ends_soon_is_trouble(
    ends_in: timedelta | None, said: str | None
) -> None:
    assert told(ends_in=ends_in) == said


@pytest.mark.parametrize(
    ("cause", "state", "said"),
    [
        (
            Cause.CREDENTIAL_REFUSED,
            "refused",
            "erp credentials[1] (client_secret) is refused by Entra",
        ),
        (
            Cause.CREDENTIAL_UNREADABLE,
            "untried",
            "erp credentials[1] (client_secret) cannot be read",
        ),
        (
            Cause.CREDENTIAL_UNREADABLE,
            "active",
            "erp credentials[1] (client_secret) cannot be read again; the one read before is used",
        ),
        (None, "standby", None),
    ],
)
def test_a_credential_that_is_refused_or_unreadable_is_trouble(
    cause: Cause | None, state: State, said: str | None
) -> None:
    assert told(cause=cause, state=state) == said


def test_a_credential_that_has_a_successor_is_no_trouble_for_its_end() -> None:
    assert told(ends_in=timedelta(days=1), state="superseded") is None
