"""What a configuration file may say. Names are fixed; unknown keys are refused.

Everything here is a frozen value. Cross-references (an application that a grant names, say)
are checked in `config.loading`, which knows files and lines.
"""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic needs them at run time
from enum import StrEnum
from pathlib import Path  # noqa: TC003
from typing import Annotated, Any, Literal
from uuid import UUID  # noqa: TC003

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

PAGE_SIZE_MAX = 5000
"""Rows a page; Dataverse's own maximum (dataverse-reference 3.4)."""


class Strict(BaseModel):
    """Frozen, and closed: an old broker never skips a new rule."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def _plain_https_or_http(value: str) -> str:
    """An origin, perhaps with a path; no credentials, query or fragment; no trailing slash."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - kept beside its one use

    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("must be an absolute http(s) URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no user, query or fragment")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_plain_https_or_http)]


# ----------------------------------------------------------------- secrets


class EnvReference(Strict):
    env: str


class FileReference(Strict):
    file: Path


class KeyVaultName(Strict):
    vault: Url
    name: str
    version: str | None = None


class KeyVaultReference(Strict):
    key_vault: KeyVaultName


def _kind_by_first_key(*kinds: str) -> Any:
    def kind(value: Any) -> str:
        keys = value.keys() if isinstance(value, dict) else set(type(value).model_fields)
        return next((k for k in kinds if k in keys), kinds[0])

    return kind


SecretReference = Annotated[
    Annotated[EnvReference, Tag("env")]
    | Annotated[FileReference, Tag("file")]
    | Annotated[KeyVaultReference, Tag("key_vault")],
    Discriminator(_kind_by_first_key("env", "file", "key_vault")),
]

# ------------------------------------------------------------ applications


class CertificateCredential(Strict):
    """A PEM with key and chain, or a PFX (then `passphrase` where it has one)."""

    certificate: SecretReference
    passphrase: SecretReference | None = None


class ClientSecretCredential(Strict):
    client_secret: SecretReference
    expires: date | None = None


class FederatedTokenCredential(Strict):
    """A token file that someone else renews (Kubernetes workload identity)."""

    federated_token: FileReference


class ManagedIdentityName(Strict):
    client_id: UUID | None = None


class ManagedIdentityCredential(Strict):
    managed_identity: ManagedIdentityName


class KeyVaultKeyName(Strict):
    vault: Url
    certificate: str


class KeyVaultSignerCredential(Strict):
    """The private key never leaves the vault: it signs the assertion there."""

    key_vault_signer: KeyVaultKeyName


Credential = Annotated[
    Annotated[ClientSecretCredential, Tag("client_secret")]
    | Annotated[CertificateCredential, Tag("certificate")]
    | Annotated[FederatedTokenCredential, Tag("federated_token")]
    | Annotated[ManagedIdentityCredential, Tag("managed_identity")]
    | Annotated[KeyVaultSignerCredential, Tag("key_vault_signer")],
    Discriminator(
        _kind_by_first_key(
            "client_secret",
            "certificate",
            "federated_token",
            "managed_identity",
            "key_vault_signer",
        )
    ),
]


class Application(Strict):
    """An app registration: whom the broker is, towards Entra."""

    tenant_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,253}$")]
    client_id: UUID
    credentials: Annotated[tuple[Credential, ...], Field(min_length=1)]
    authority: Url = "https://login.microsoftonline.com"
    ca_file: Path | None = None


# ------------------------------------------------------------ environments


class SchemaFile(Strict):
    file: Path


class Environment(Strict):
    """A Dataverse environment, addressed by its URL; `org.crm4` and `org.api.crm4` are one."""

    url: Url
    schema_: Annotated[Literal["live"] | SchemaFile, Field(alias="schema")] = "live"
    api_versions: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^v9\.[0-9]$")], ...], Field(min_length=1)
    ] = ("v9.2",)
    administrator: Name | None = None
    ca_file: Path | None = None


# ----------------------------------------------------------------- issuers


class Issuer(Strict):
    """Whose JWTs prove who a caller is."""

    issuer: str
    audience: str | tuple[str, ...]
    jwks_uri: Url | None = None
    algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"],
        ...,
    ] = ("RS256",)
    ca_file: Path | None = None
    token_file: Path | None = None
    """A token that the JWKS request carries, where the issuer wants one (Kubernetes)."""
    app_only: bool = True
    """Refuse tokens with `scp`: those speak for a person."""


# ----------------------------------------------------------------- callers


class ApiKey(Strict):
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    expires: date | None = None


class ApiKeyIdentity(Strict):
    api_key: ApiKey


class JwtMatch(Strict):
    issuer: Name
    claims: Annotated[dict[str, str | tuple[str, ...]], Field(min_length=1)]


class JwtIdentity(Strict):
    jwt: JwtMatch


class CertificateMatch(Strict):
    san: str


class CertificateIdentity(Strict):
    certificate: CertificateMatch


Identity = Annotated[
    Annotated[ApiKeyIdentity, Tag("api_key")]
    | Annotated[JwtIdentity, Tag("jwt")]
    | Annotated[CertificateIdentity, Tag("certificate")],
    Discriminator(_kind_by_first_key("api_key", "jwt", "certificate")),
]


class Operation(StrEnum):
    """Dataverse's privileges, as policies name them."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    APPEND_TO = "append_to"
    ASSIGN = "assign"


class TableRule(Strict):
    """What a grant allows on one table. No columns named: all of them."""

    operations: tuple[Operation, ...]
    columns: tuple[str, ...] | None = None
    writable_columns: tuple[str, ...] | None = None
    row_filter: str | None = None


class BoundName(Strict):
    """A function or action bound to rows of one table."""

    name: str
    table: str


class ImpersonateCallers(Strict):
    caller_id: Annotated[tuple[UUID, ...], Field(min_length=1)]


class ImpersonateAs(Strict):
    as_: Annotated[UUID, Field(alias="as")]


class Limits(Strict):
    page_size: Annotated[int, Field(ge=1, le=PAGE_SIZE_MAX)] | None = None
    expand_depth: Annotated[int, Field(ge=0, le=10)] = 3
    batch_parts: Annotated[int, Field(ge=1, le=1000)] = 1000
    body_bytes: Annotated[int, Field(ge=1, le=128 * 1024 * 1024)] = 16 * 1024 * 1024
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    priority: Literal["high", "normal", "low"] = "normal"


class Grant(Strict):
    """What a caller may do in one environment, as one application (or one of a pool)."""

    environment: Name
    application: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    enforce: bool = True
    issue_token: bool = False
    tables: dict[str, TableRule] = Field(default_factory=dict)
    functions: tuple[str | BoundName, ...] = ()
    actions: tuple[str | BoundName, ...] = ()
    metadata: Literal["none", "granted", "all"] = "granted"
    impersonate: Literal["none"] | ImpersonateCallers | ImpersonateAs = "none"
    headers: tuple[Annotated[str, StringConstraints(pattern=r"^(?i:MSCRM)\.[A-Za-z]+$")], ...] = ()
    limits: Limits = Limits()

    @property
    def applications(self) -> tuple[str, ...]:
        return (self.application,) if isinstance(self.application, str) else self.application


class Caller(Strict):
    """An internal service, and how it may prove to be the one."""

    description: str = ""
    identities: tuple[Identity, ...] = ()
    default_environment: Name | None = None
    disabled: bool = False
    roles: tuple[Literal["auditor", "operator"], ...] = ()
    grants: tuple[Grant, ...] = ()


class Configuration(Strict):
    """One whole configuration: a file, or the merge of a folder's."""

    public_url: Url
    applications: dict[Name, Application] = Field(default_factory=dict)
    environments: dict[Name, Environment] = Field(default_factory=dict)
    issuers: dict[Name, Issuer] = Field(default_factory=dict)
    callers: dict[Name, Caller] = Field(default_factory=dict)
