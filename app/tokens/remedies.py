"""What Entra's codes mean, and what a person does about them.

Microsoft's advice is to decide on `error` and to use AADSTS codes for diagnosis. The codes below
are the ones that client credentials meet (reference-error-codes and real answers); for any other
the decision falls back to `error` and the HTTP status.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.tokens.failure import Cause


@dataclass(frozen=True, slots=True)
class Remedy:
    cause: Cause
    meaning: str
    """A clause, after `no token for application X: `."""
    remedy: str
    """Sentences for the person who can repair it."""


PROPAGATION = "Entra needs some minutes to spread a change: it is tried again by itself."

REMEDIES: dict[int, Remedy] = {
    7000215: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "Entra does not know this client secret",
        "Put the secret's value into the configuration, not its id (the portal shows both, and "
        "the value only once), and check that it belongs to this client_id.",
    ),
    7000222: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "the client secret has expired",
        "Create a new secret (or better, a certificate) for the app registration, put it first "
        "into the application's credentials, and remove the old one afterwards.",
    ),
    700027: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "Entra does not accept the certificate's signature",
        "Upload this certificate to the app registration and compare thumbprints; check that it "
        f"has not expired and that this machine's clock is right. {PROPAGATION}",
    ),
    700030: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "Entra calls the certificate invalid",
        "Create a new certificate (RSA, 2048 bits or more, not expired) and upload it to the app "
        "registration.",
    ),
    50012: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "authentication failed",
        "Check the credential and this machine's clock; the certificate must be uploaded to the "
        "app registration of this client_id.",
    ),
    50013: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "Entra does not accept the assertion's signature",
        "Compare the keys that the issuer publishes with the one that signed, and the certificate "
        f"with the app registration's. {PROPAGATION}",
    ),
    50027: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "Entra cannot read the assertion",
        "Check that the token file holds a JWT, whole and nothing else.",
    ),
    700021: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "the assertion is another application's",
        "Compare client_id with the app registration that the certificate or token belongs to.",
    ),
    700023: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "the assertion is for another authority or tenant",
        "Check tenant_id and authority: the assertion names both.",
    ),
    700024: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "the assertion is not valid now, as Entra's clock has it",
        "Set this machine's clock (NTP): a few minutes off are too many. For a token file: check "
        "that it is renewed.",
    ),
    7000218: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "the request carried no credential",
        "Check that the secret or the token file that the configuration names is not empty.",
    ),
    700016: Remedy(
        Cause.APPLICATION_REFUSED,
        "the application is not in this tenant",
        "Compare client_id and tenant_id with the app registration's overview page; in a tenant "
        "that does not own it, an administrator must consent first.",
    ),
    7000112: Remedy(
        Cause.APPLICATION_REFUSED,
        "the application is disabled in Entra",
        "Somebody switched it off. Enable its enterprise application again if that was no "
        "emergency.",
    ),
    7000229: Remedy(
        Cause.APPLICATION_REFUSED,
        "the application has no service principal in this tenant",
        "Create it: az ad sp create --id <client_id>, or have an administrator consent.",
    ),
    90002: Remedy(
        Cause.APPLICATION_REFUSED,
        "the tenant does not exist",
        "Check tenant_id, and that authority names the right cloud.",
    ),
    500011: Remedy(
        Cause.RESOURCE_REFUSED,
        "the tenant does not know the environment's URL as a resource",
        "Check the environment's url (its region too, such as crm4) and that the environment "
        "belongs to this tenant.",
    ),
    70011: Remedy(
        Cause.RESOURCE_REFUSED,
        "the scope is not valid",
        "The scope is made of the environment's url: it must be the organization's origin, "
        "without a path.",
    ),
    700022: Remedy(
        Cause.RESOURCE_REFUSED,
        "the scope names several resources",
        "Name one environment's url only.",
    ),
    65001: Remedy(
        Cause.APPLICATION_REFUSED,
        "consent is missing",
        "An administrator grants consent in the app registration's API permissions. Dataverse "
        "itself needs none: access comes from the application user.",
    ),
    53003: Remedy(
        Cause.APPLICATION_REFUSED,
        "Conditional Access blocks the application",
        "Find the policy in Entra's sign-in log (service principals) and let the broker's "
        "outgoing addresses in.",
    ),
    50034: Remedy(
        Cause.APPLICATION_REFUSED,
        "the account does not exist in this tenant",
        "Check tenant_id and client_id.",
    ),
    700211: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "no federated credential has this token's issuer",
        "Compare the federated credential's issuer with the token's iss, byte by byte, a "
        f"trailing slash included. {PROPAGATION}",
    ),
    700213: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "no federated credential has this token's subject",
        "Compare the federated credential's subject with the token's sub, case included: "
        f"system:serviceaccount:<namespace>:<name>. {PROPAGATION}",
    ),
    70021: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "no federated credential matches this token",
        "Add one with the token's issuer, subject and audience to the app registration. "
        f"{PROPAGATION}",
    ),
    7002121: Remedy(
        Cause.CREDENTIAL_REFUSED,
        "no federated credential has this token's audience",
        "Project the token with the audience api://AzureADTokenExchange, as the federated "
        f"credential names it. {PROPAGATION}",
    ),
    100007: Remedy(
        Cause.APPLICATION_REFUSED,
        "regional endpoints are for Microsoft's own services",
        "Unset MSAL_FORCE_REGION, and let authority name the global or the cloud's host.",
    ),
    90055: Remedy(
        Cause.ENTRA_THROTTLED,
        "Entra throttles the tenant",
        "It is tried again by itself; find what else asks for so many tokens.",
    ),
    90033: Remedy(
        Cause.ENTRA_UNREACHABLE,
        "Entra has a passing fault",
        "It is tried again by itself.",
    ),
    90090: Remedy(
        Cause.ENTRA_UNREACHABLE,
        "Entra has a passing fault",
        "It is tried again by itself.",
    ),
    50196: Remedy(
        Cause.ENTRA_THROTTLED,
        "Entra saw the same request too often",
        "It is tried again by itself; find what else uses this app registration.",
    ),
}
"""By AADSTS code."""

THROTTLED = Remedy(
    Cause.ENTRA_THROTTLED, "Entra throttles token requests", "It is tried again by itself."
)
DOWN = Remedy(Cause.ENTRA_UNREACHABLE, "Entra answers with a fault", "It is tried again by itself.")
BAD_CREDENTIAL = Remedy(
    Cause.CREDENTIAL_REFUSED,
    "Entra does not accept the credential",
    "Check it in the app registration; the code is explained at "
    "https://login.microsoftonline.com/error.",
)
BAD_REQUEST = Remedy(
    Cause.APPLICATION_REFUSED,
    "Entra refuses the application",
    "Look it up in Entra's sign-in log (service principals); the code is explained at "
    "https://login.microsoftonline.com/error.",
)
BAD_SCOPE = Remedy(
    Cause.RESOURCE_REFUSED,
    "Entra does not know the environment as a resource",
    "Check the environment's url and the application's tenant_id.",
)

_BY_ERROR = {
    "invalid_client": BAD_CREDENTIAL,
    "invalid_resource": BAD_SCOPE,
    "invalid_scope": BAD_SCOPE,
    "temporarily_unavailable": DOWN,
    "server_error": DOWN,
}


def remedy_for(*, aadsts: int | None, error: str | None, status: int | None) -> Remedy:
    """The most specific thing known about an answer of Entra's."""
    if aadsts is not None and aadsts in REMEDIES:
        return REMEDIES[aadsts]
    if status == 429:
        return THROTTLED
    if status is not None and status >= 500:
        return DOWN
    if error is not None and error in _BY_ERROR:
        return _BY_ERROR[error]
    return BAD_CREDENTIAL if status == 401 else BAD_REQUEST
