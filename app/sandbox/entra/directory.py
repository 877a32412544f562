"""The tenants, their applications, and what each may prove itself with.

Held in plain attributes that may change while the sandbox runs: a test rotates a secret, or
disables an application, and the next token request sees it. What is looked at during a request
is always a whole tuple, so a change from another thread is seen fully or not at all.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.sandbox.entra import jws

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecret:
    value: str = field(repr=False)
    expires: datetime | None = None

    def is_value(self, candidate: str) -> bool:
        """In constant time, whatever differs."""
        return hmac.compare_digest(self.value.encode(), candidate.encode())


@dataclass(frozen=True, slots=True)
class RegisteredCertificate:
    """The public half, as an administrator uploads it."""

    certificate: x509.Certificate = field(repr=False)

    @classmethod
    def from_pem(cls, pem: bytes) -> RegisteredCertificate:
        """Takes the first certificate of a PEM, keys and chains aside."""
        return cls(x509.load_pem_x509_certificates(pem)[0])

    @property
    def public_key(self) -> RSAPublicKey:
        key = self.certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            raise TypeError("Entra registers certificates with RSA keys only")
        return key

    def thumbprint(self) -> bytes:
        return self.certificate.fingerprint(hashes.SHA1())  # noqa: S303 - the name it has in x5t

    def thumbprint_sha256(self) -> bytes:
        return self.certificate.fingerprint(hashes.SHA256())

    def is_current(self, now: datetime) -> bool:
        return self.certificate.not_valid_before_utc <= now < self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedCredential:
    """Whose JWTs stand for the application; `jwks` is what its issuer would publish."""

    issuer: str
    subject: str
    jwks: dict[str, Any] = field(repr=False)
    audience: str = "api://AzureADTokenExchange"

    def keys(self, key_id: object) -> list[RSAPublicKey]:
        """The RSA keys of that id, or all of them for a token that names none."""
        found = (
            jws.from_jwk(jwk)
            for jwk in self.jwks["keys"]
            if key_id is None or jwk.get("kid") == key_id
        )
        return [key for key in found if key is not None]


@dataclass(slots=True, kw_only=True)
class RegisteredApplication:
    """An app registration and its service principal; every attribute may be replaced."""

    client_id: str
    name: str
    secrets: tuple[ClientSecret, ...] = ()
    certificates: tuple[RegisteredCertificate, ...] = ()
    federated: tuple[FederatedCredential, ...] = ()
    enabled: bool = True
    provisioned: bool = True
    """False: registered, but without a service principal in the tenant (AADSTS7000229)."""
    roles: tuple[str, ...] = ()

    @property
    def object_id(self) -> str:
        """The service principal's, always the same for one client id."""
        return str(uuid5(NAMESPACE_URL, f"sandbox:service-principal:{self.client_id}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What tokens are for: a Dataverse environment, a vault, an API of one's own.

    Which form a token has (1.0 with `appid`, 2.0 with `azp`) is the resource's choice, whatever
    endpoint was asked (dataverse-reference 10.3); first-party ones such as Dataverse take 1.0.
    """

    uri: str
    version: str = "1.0"


class Tenant:
    def __init__(self, *, tenant_id: str, domain: str = "sandbox.onmicrosoft.com") -> None:
        self.tenant_id = tenant_id
        self.domain = domain
        self.applications: dict[str, RegisteredApplication] = {}
        self.resources: dict[str, Resource] = {}

    def register(self, application: RegisteredApplication) -> RegisteredApplication:
        self.applications[application.client_id.lower()] = application
        return application

    def application(self, client_id: str) -> RegisteredApplication | None:
        return self.applications.get(client_id.lower())

    def add_resource(self, resource: Resource) -> Resource:
        self.resources[_resource_key(resource.uri)] = resource
        return resource

    def resource(self, uri: str) -> Resource | None:
        """Found with and without its trailing slash, and in any case, as Entra does."""
        return self.resources.get(_resource_key(uri))


def _resource_key(uri: str) -> str:
    return uri.rstrip("/").lower()


class Directory:
    """All tenants, found by id or by domain."""

    def __init__(self, *tenants: Tenant) -> None:
        self._tenants = {name.lower(): t for t in tenants for name in (t.tenant_id, t.domain)}

    def tenant(self, name: str) -> Tenant | None:
        return self._tenants.get(name.lower())
