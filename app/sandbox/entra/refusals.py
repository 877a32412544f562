"""Entra's own errors: code, HTTP status, OAuth error and words (dataverse-reference 1.6).

The federated ones answer 401 `invalid_client`, as recorded payloads of 2026 do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from app.sandbox.exchange import Answer, json_answer

if TYPE_CHECKING:
    from datetime import datetime

_ERROR_PAGE = "https://login.microsoftonline.com/error"
_FEDERATION = (
    "Check your federated identity credential Subject, Audience and Issuer against the"
    " presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)
_CERTIFICATES = (
    "Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/"
    "active-directory-certificate-credentials ."
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One entry of the catalogue; `text` has the places that `Refused` fills."""

    code: int
    status: int
    error: str
    text: str
    suberror: str | None = None
    claims: str | None = None
    retry_after_s: int | None = None


CATALOGUE: dict[int, Refusal] = {
    refusal.code: refusal
    for refusal in (
        Refusal(
            7000215,
            401,
            "invalid_client",
            "Invalid client secret provided. Ensure the secret being sent in the request is the"
            " client secret value, not the client secret ID, for a secret added to app"
            " '{client_id}'.",
        ),
        Refusal(
            7000222,
            401,
            "invalid_client",
            "The provided client secret keys for app '{client_id}' are expired. Visit the Azure"
            " portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider"
            " using certificate credentials for added security:"
            " https://aka.ms/certCreds.",
        ),
        Refusal(
            700016,
            400,
            "unauthorized_client",
            "Application with identifier '{client_id}' was not found in the directory '{tenant}'."
            " This can happen if the application has not been installed by the administrator of"
            " the tenant or consented to by any user in the tenant. You may have sent your"
            " authentication request to the wrong tenant.",
        ),
        Refusal(
            7000112,
            400,
            "unauthorized_client",
            "Application '{client_id}'({name}) is disabled.",
        ),
        Refusal(
            7000229,
            401,
            "invalid_client",
            "The client application {client_id} is missing service principal in the tenant"
            " {tenant}. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119",
        ),
        Refusal(
            90002,
            400,
            "invalid_tenant",
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and"
            " are signing into the correct cloud. Check with your subscription administrator,"
            " this may happen if there are no active subscriptions for the tenant.",
        ),
        Refusal(
            700027,
            401,
            "invalid_client",
            "Client assertion failed signature validation. [Reason - {reason}, Thumbprint of key"
            " used by client: '{thumbprint}', Please visit the Azure Portal, Graph Explorer or"
            " directly use MS Graph to see configured keys for app Id '{client_id}'.]",
        ),
        Refusal(
            700030,
            401,
            "invalid_client",
            "Invalid certificate - subject name in certificate is not authorized.",
        ),
        Refusal(50012, 401, "invalid_client", "Authentication failed."),
        Refusal(
            50013,
            401,
            "invalid_client",
            "Assertion failed signature validation. [Reason - {reason}.]",
        ),
        Refusal(50027, 400, "invalid_request", "JWT token is invalid or malformed. {reason}"),
        Refusal(
            700021,
            401,
            "invalid_client",
            "Client assertion application identifier doesn't match 'client_id' parameter. "
            + _CERTIFICATES,
        ),
        Refusal(
            700023,
            401,
            "invalid_client",
            "Client assertion audience claim does not match Realm issuer. " + _CERTIFICATES,
        ),
        Refusal(
            700024,
            401,
            "invalid_client",
            "Client assertion is not within its valid time range. " + _CERTIFICATES,
        ),
        Refusal(
            7000218,
            401,
            "invalid_client",
            "The request body must contain the following parameter: 'client_assertion' or"
            " 'client_secret'.",
        ),
        Refusal(
            500011,
            400,
            "invalid_resource",
            "The resource principal named {resource} was not found in the tenant named {tenant}."
            " This can happen if the application has not been installed by the administrator of"
            " the tenant or consented to by any user in the tenant. You might have sent your"
            " authentication request to the wrong tenant.",
        ),
        Refusal(
            65001,
            400,
            "invalid_grant",
            "The user or administrator has not consented to use the application with ID"
            " '{client_id}' named '{name}'. Send an interactive authorization request for this"
            " user and resource.",
        ),
        Refusal(
            53003,
            400,
            "invalid_grant",
            "Access has been blocked by Conditional Access policies. The access policy does not"
            " allow token issuance.",
            suberror="message_only",
            claims='{"access_token":{"capolids":{"essential":true,'
            '"values":["00000000-0000-0000-0000-0000000000ca"]}}}',
        ),
        Refusal(
            50034,
            400,
            "invalid_grant",
            "The user account does not exist in the {tenant} directory. To sign into this"
            " application, the account must be added to the directory.",
        ),
        Refusal(
            70021,
            401,
            "invalid_client",
            "No matching federated identity record found for presented assertion. " + _FEDERATION,
        ),
        Refusal(
            700211,
            401,
            "invalid_client",
            "No matching federated identity record found for presented assertion issuer"
            " '{issuer}'. " + _FEDERATION,
        ),
        Refusal(
            700213,
            401,
            "invalid_client",
            "No matching federated identity record found for presented assertion subject"
            " '{subject}'. " + _FEDERATION,
        ),
        Refusal(
            7002121,
            401,
            "invalid_client",
            "No matching federated identity record found for presented assertion audience"
            " '{audience}'. " + _FEDERATION,
        ),
        Refusal(
            70011,
            400,
            "invalid_scope",
            "The provided request must include a 'scope' input parameter. The provided value for"
            " the input parameter 'scope' is not valid. The scope {scope} is not valid.",
        ),
        Refusal(
            700022,
            400,
            "invalid_scope",
            "The provided value for the input parameter 'scope' isn't valid because it contains"
            " more than one resource. Scope {scope} is not valid.",
        ),
        Refusal(
            900144,
            400,
            "invalid_request",
            "The request body must contain the following parameter: '{parameter}'.",
        ),
        Refusal(
            9000411,
            400,
            "invalid_request",
            "The request is not properly formatted. The parameter '{parameter}' is duplicated.",
        ),
        Refusal(
            900561,
            400,
            "invalid_request",
            "The endpoint only accepts POST requests. Received a {method} request.",
        ),
        Refusal(
            70003,
            400,
            "unsupported_grant_type",
            "The app requested an unsupported grant type '{grant_type}'.",
        ),
        Refusal(
            100007,
            400,
            "invalid_request",
            "AAD Regional ONLY supports auth either for MSIs OR for requests from MSAL using SN+I"
            " for 1P apps or 3P apps onboarded to Azure AD regional endpoints.",
        ),
        Refusal(
            90055,
            429,
            "temporarily_unavailable",
            "Server is temporarily throttling requests for this tenant.",
            retry_after_s=5,
        ),
        Refusal(
            90033,
            503,
            "temporarily_unavailable",
            "A transient error has occurred. Please try again.",
        ),
        Refusal(
            90090,
            503,
            "temporarily_unavailable",
            "A transient error occurred while reading from the directory. Please try again.",
        ),
        Refusal(
            50196,
            400,
            "invalid_grant",
            "The server terminated an operation because it encountered a client request loop."
            " Please contact your app vendor.",
        ),
    )
}


class Refused(Exception):
    """Raised while a token request is judged; `details` fill the places in the text."""

    def __init__(self, code: int, **details: str) -> None:
        self.refusal = CATALOGUE[code]
        self.details = details
        super().__init__(f"AADSTS{code}")


class _Details(dict[str, str]):
    """A place that nobody filled reads as Entra writes it: empty."""

    def __missing__(self, key: str) -> str:
        return ""


def refusal_answer(refused: Refused, *, now: datetime, correlation_id: str) -> Answer:
    refusal = refused.refusal
    trace_id = str(uuid4())
    timestamp = f"{now:%Y-%m-%d %H:%M:%SZ}"
    text = refusal.text.format_map(_Details(refused.details))
    content: dict[str, Any] = {
        "error": refusal.error,
        "error_description": (
            f"AADSTS{refusal.code}: {text}\r\nTrace ID: {trace_id}"
            f"\r\nCorrelation ID: {correlation_id}\r\nTimestamp: {timestamp}"
        ),
        "error_codes": [refusal.code],
        "timestamp": timestamp,
        "trace_id": trace_id,
        "correlation_id": correlation_id,
        "error_uri": f"{_ERROR_PAGE}?code={refusal.code}",
    }
    if refusal.suberror is not None:
        content["suberror"] = refusal.suberror
    if refusal.claims is not None:
        content["claims"] = refusal.claims
    headers: tuple[tuple[str, str], ...] = (("x-ms-request-id", trace_id),)
    if refusal.retry_after_s is not None:
        headers += (("retry-after", str(refusal.retry_after_s)),)
    return json_answer(content, status=refusal.status, headers=headers)
