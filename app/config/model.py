"""What a configuration file may say. Names are fixed; unknown keys are refused.

Everything here is a frozen value. Cross-references (an application that a grant names, say)
are checked in `config.loading`, which knows files and lines.
"""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic needs it at run time
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from app.config.grants import (
    PAGE_SIZE_MAX,
    BoundName,
    Grant,
    ImpersonateAs,
    ImpersonateCallers,
    Limits,
    Operation,
    OperationName,
    TableRule,
)
from app.config.words import (
    Day,
    DocumentUrl,
    FilePath,
    Flag,
    Guid,
    Name,
    Origin,
    SafeUrl,
    Strict,
    Text,
    Url,
    day_or,
    document_url,
    one_of,
)

__all__ = [
    "MUTABLE_CLAIMS",
    "PAGE_SIZE_MAX",
    "SHARED_CLAIMS",
    "Algorithm",
    "ApiKey",
    "ApiKeyIdentity",
    "Application",
    "BoundName",
    "Caller",
    "CertificateCredential",
    "CertificateIdentity",
    "CertificateMatch",
    "ClaimValue",
    "ClientSecretCredential",
    "Configuration",
    "Credential",
    "EnvReference",
    "Environment",
    "FederatedTokenCredential",
    "FileReference",
    "Grant",
    "Identity",
    "ImpersonateAs",
    "ImpersonateCallers",
    "Issuer",
    "JwtIdentity",
    "JwtMatch",
    "KeyVaultKeyName",
    "KeyVaultName",
    "KeyVaultReference",
    "KeyVaultSignerCredential",
    "Limits",
    "ManagedIdentityCredential",
    "ManagedIdentityName",
    "Name",
    "Operation",
    "OperationName",
    "SchemaFile",
    "SecretReference",
    "TableRule",
    "Url",
    "VaultObject",
]

# ----------------------------------------------------------------- secrets


VaultObject = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{1,127}$")]


class EnvReference(Strict):
    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class FileReference(Strict):
    file: FilePath


class KeyVaultName(Strict):
    vault: SafeUrl
    name: VaultObject
    version: VaultObject | None = None


class KeyVaultReference(Strict):
    key_vault: KeyVaultName


SecretReference = Annotated[
    EnvReference | FileReference | KeyVaultReference,
    one_of(
        EnvReference,
        FileReference,
        KeyVaultReference,
        otherwise="a secret never stands in the file itself: "
        "{env: NAME}, {file: PATH} or {key_vault: {vault: URL, name: NAME}}",
    ),
]

# ------------------------------------------------------------ applications


class CertificateCredential(Strict):
    """A PEM with key and chain, or a PFX (then `passphrase` where it has one)."""

    certificate: SecretReference
    passphrase: SecretReference | None = None


class ClientSecretCredential(Strict):
    """`expires: graph` has Microsoft Graph asked once a day, as this application: it then needs
    Application.Read.All. Nothing is asked there otherwise.
    """

    client_secret: SecretReference
    expires: Annotated[date | Literal["graph"], day_or("graph")] | None = None


class FederatedTokenCredential(Strict):
    """A token file that someone else renews (Kubernetes workload identity)."""

    federated_token: FileReference


class ManagedIdentityName(Strict):
    client_id: Guid | None = None


class ManagedIdentityCredential(Strict):
    managed_identity: ManagedIdentityName


class KeyVaultKeyName(Strict):
    vault: SafeUrl
    certificate: VaultObject


class KeyVaultSignerCredential(Strict):
    """The private key never leaves the vault: it signs the assertion there."""

    key_vault_signer: KeyVaultKeyName


Credential = Annotated[
    ClientSecretCredential
    | CertificateCredential
    | FederatedTokenCredential
    | ManagedIdentityCredential
    | KeyVaultSignerCredential,
    one_of(
        ClientSecretCredential,
        CertificateCredential,
        FederatedTokenCredential,
        ManagedIdentityCredential,
        KeyVaultSignerCredential,
        otherwise="a credential is one of client_secret, certificate, federated_token, "
        "managed_identity, key_vault_signer",
    ),
]


class Application(Strict):
    """An app registration: whom the broker is, towards Entra."""

    tenant_id: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9-]*\.?[A-Za-z0-9])*$", max_length=253),
    ]
    client_id: Guid
    credentials: Annotated[tuple[Credential, ...], Field(min_length=1)]
    authority: SafeUrl = "https://login.microsoftonline.com"
    ca_file: FilePath | None = None


# ------------------------------------------------------------ environments


class SchemaFile(Strict):
    file: FilePath


class Environment(Strict):
    """A Dataverse environment, addressed by its URL; `org.crm4` and `org.api.crm4` are one."""

    url: Origin
    schema_: Annotated[
        Literal["live"] | SchemaFile,
        one_of(SchemaFile, text=Literal["live"], otherwise="must be live, or {file: metadata.xml}"),
        Field(alias="schema"),
    ] = "live"
    api_versions: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^v9\.[0-9]$")], ...], Field(min_length=1)
    ] = ("v9.2",)
    administrator: Name | None = None
    ca_file: FilePath | None = None


# ----------------------------------------------------------------- issuers


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519"
]
"""Asymmetric only: with HMAC, whoever can check a token can write one."""


class Issuer(Strict):
    """Whose JWTs prove who a caller is. `issuer` is compared byte for byte, a final / too."""

    issuer: Text
    audience: Annotated[
        str | tuple[str, ...],
        one_of(
            text=Text,
            several=Annotated[tuple[Text, ...], Field(min_length=1)],
            otherwise="must be text, or a list of texts",
        ),
    ]
    jwks_uri: DocumentUrl | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    ca_file: FilePath | None = None
    token_file: FilePath | None = None
    """A token that the JWKS request carries, where the issuer wants one (Kubernetes)."""
    app_only: Flag = True
    """Refuse tokens with `scp`: those speak for a person."""

    @property
    def audiences(self) -> tuple[str, ...]:
        return (self.audience,) if isinstance(self.audience, str) else self.audience

    @model_validator(mode="after")
    def _has_an_address(self) -> Issuer:
        if self.jwks_uri is None:
            try:
                document_url(self.issuer)
            except ValueError as error:
                raise ValueError(
                    f"issuer {error}; or name a jwks_uri, where its keys are found"
                ) from error
        return self


# ----------------------------------------------------------------- callers


class ApiKey(Strict):
    """`expires` is the last day on which the key opens anything, in UTC."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    expires: Day | None = None


class ApiKeyIdentity(Strict):
    api_key: ApiKey


MUTABLE_CLAIMS: Final = frozenset({"name", "preferred_username", "unique_name", "upn", "email"})
"""Whoever may edit a profile chooses these (Entra's own warning; reference 10.3)."""

SHARED_CLAIMS: Final = frozenset(
    {"iss", "aud", "exp", "nbf", "iat", "tid", "ver", "idtyp", "azpacr", "appidacr", "scp", "typ"}
)
"""Every token of one issuer has the same here, or any other caller can have it."""


def _identifying(claims: dict[str, Any]) -> dict[str, Any]:
    if mutable := sorted(claims.keys() & MUTABLE_CLAIMS):
        raise ValueError(f"{', '.join(mutable)} can be changed by the user; use sub, oid or azp")
    if not claims.keys() - SHARED_CLAIMS:
        raise ValueError("identify nobody: add sub, oid, azp, appid or a role")
    return claims


ClaimValue = Annotated[
    str | tuple[str, ...],
    one_of(
        text=Text,
        several=Annotated[tuple[Text, ...], Field(min_length=1)],
        otherwise="must be text, or a list of texts that must all be there",
    ),
]


class JwtMatch(Strict):
    """All claims must match. A claim that is a list must contain the value, or all of several."""

    issuer: Name
    claims: Annotated[dict[Text, ClaimValue], Field(min_length=1), AfterValidator(_identifying)]


class JwtIdentity(Strict):
    jwt: JwtMatch


class CertificateMatch(Strict):
    """A subject alternative name: a URI where it holds `://`, a DNS name otherwise."""

    san: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,2048}$")]

    @property
    def is_uri(self) -> bool:
        return "://" in self.san

    @property
    def name(self) -> str:
        """As it is compared: case counts in a URI, not in a DNS name."""
        return self.san if self.is_uri else self.san.lower()


class CertificateIdentity(Strict):
    certificate: CertificateMatch


Identity = Annotated[
    ApiKeyIdentity | JwtIdentity | CertificateIdentity,
    one_of(
        ApiKeyIdentity,
        JwtIdentity,
        CertificateIdentity,
        otherwise="an identity is one of api_key, jwt, certificate",
    ),
]


class Caller(Strict):
    """An internal service, and how it may prove to be the one."""

    description: str = ""
    identities: tuple[Identity, ...] = ()
    default_environment: Name | None = None
    disabled: Flag = False
    roles: tuple[Literal["auditor", "operator"], ...] = ()
    grants: tuple[Grant, ...] = ()


class Configuration(Strict):
    """One whole configuration: a file, or the merge of a folder's."""

    public_url: Url
    applications: dict[Name, Application] = Field(default_factory=dict)
    environments: dict[Name, Environment] = Field(default_factory=dict)
    issuers: dict[Name, Issuer] = Field(default_factory=dict)
    callers: dict[Name, Caller] = Field(default_factory=dict)
