"""Does this client assertion prove the application? Certificates and federated issuers.

Reads what real clients send: thumbprints padded or not, times as floats, no `nbf`, and the
audience in every spelling that Entra takes (dataverse-reference 1.3).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.sandbox.entra import jws
from app.sandbox.entra.refusals import Refused

if TYPE_CHECKING:
    from app.sandbox.entra.directory import RegisteredApplication, RegisteredCertificate

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLOCK_SKEW = timedelta(minutes=5)

_CERTIFICATE_ALGORITHMS = frozenset({"RS256", "PS256"})
_FEDERATED_ALGORITHMS = frozenset({"RS256"})
"""Entra supports no other for federated issuers (dataverse-reference 10.1)."""


def check_assertion(
    assertion: str,
    application: RegisteredApplication,
    *,
    audiences: frozenset[str],
    now: datetime,
) -> str:
    """Return which kind it is, `certificate` or `federated`; raises `Refused`.

    An assertion that the application issues in its own name is a certificate's.
    """
    try:
        token = jws.read(assertion)
    except jws.Malformed:
        raise Refused(50027, reason="The token is not a signed JWT.") from None
    issuer = token.unverified_claims.get("iss")
    if isinstance(issuer, str) and issuer.lower() == application.client_id.lower():
        _check_certificate(token, application, audiences=audiences, now=now)
        return "certificate"
    if not application.federated and {"x5t", "x5t#S256"} & token.header.keys():
        raise Refused(700021)
    _check_federated(token, application, now=now)
    return "federated"


def _check_certificate(
    token: jws.Unverified,
    application: RegisteredApplication,
    *,
    audiences: frozenset[str],
    now: datetime,
) -> None:
    thumbprint, certificate = _named_certificate(token, application)
    shown = thumbprint.hex().upper()
    client_id = application.client_id
    if certificate is None:
        reason = "The key was not found."
        raise Refused(700027, reason=reason, thumbprint=shown, client_id=client_id)
    if not certificate.is_current(now):
        reason = "The key used is expired."
        raise Refused(700027, reason=reason, thumbprint=shown, client_id=client_id)
    if not token.signed_by(certificate.public_key, algorithms=_CERTIFICATE_ALGORITHMS):
        reason = "Key was found, but use of the key to verify the signature failed."
        raise Refused(700027, reason=reason, thumbprint=shown, client_id=client_id)
    claims = token.unverified_claims  # verified from here on
    subject = claims.get("sub")
    if not isinstance(subject, str) or subject.lower() != client_id.lower():
        raise Refused(700021)
    audience = claims.get("aud")
    if not isinstance(audience, str) or audience.lower().rstrip("/") not in audiences:
        raise Refused(700023)
    _check_times(claims, now=now)


def _named_certificate(
    token: jws.Unverified, application: RegisteredApplication
) -> tuple[bytes, RegisteredCertificate | None]:
    """The thumbprint in the header, and the certificate that has it."""
    for name, is_sha256 in (("x5t#S256", True), ("x5t", False)):
        value = token.header.get(name)
        if not isinstance(value, str):
            continue
        try:
            thumbprint = jws.from_b64url(value)
        except jws.Malformed:
            raise Refused(50027, reason=f"{name} is not base64url.") from None
        for certificate in application.certificates:
            own = certificate.thumbprint_sha256() if is_sha256 else certificate.thumbprint()
            if own == thumbprint:
                return thumbprint, certificate
        return thumbprint, None
    raise Refused(50027, reason="No certificate thumbprint specified in token header.")


def _check_federated(
    token: jws.Unverified, application: RegisteredApplication, *, now: datetime
) -> None:
    """Issuer, subject and audience are compared byte for byte (dataverse-reference 10.1)."""
    claims = token.unverified_claims
    issuer, subject, audience = (claims.get(name) for name in ("iss", "sub", "aud"))
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    if not application.federated:
        raise Refused(70021)
    of_issuer = [c for c in application.federated if c.issuer == issuer]
    if not of_issuer:
        raise Refused(700211, issuer=str(issuer))
    of_subject = [c for c in of_issuer if c.subject == subject]
    if not of_subject:
        raise Refused(700213, subject=str(subject))
    credential = next((c for c in of_subject if c.audience == audience), None)
    if credential is None:
        raise Refused(7002121, audience=str(audience))
    keys = credential.keys(token.header.get("kid"))
    if not keys:
        raise Refused(50013, reason="The key was not found")
    if not any(token.signed_by(key, algorithms=_FEDERATED_ALGORITHMS) for key in keys):
        raise Refused(50013, reason="The provided signature value did not match")
    _check_times(claims, now=now)


def _check_times(claims: dict[str, Any], *, now: datetime) -> None:
    expires = _instant(claims.get("exp"))
    if expires is None:
        raise Refused(50027, reason="The token has no expiry.")
    not_before = _instant(claims.get("nbf"))
    if expires + CLOCK_SKEW <= now or (not_before is not None and now + CLOCK_SKEW < not_before):
        raise Refused(700024)


def _instant(value: object) -> datetime | None:
    """NumericDate, whole or with a fraction (RFC 7519, 2)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return None
