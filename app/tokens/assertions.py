"""Client assertions that MSAL does not make itself: from a token file, or signed in a vault."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from app.tokens.claims import unverified_payload
from app.tokens.failure import Cause, Failure
from app.tokens.hidden import Hidden
from app.tokens.material import Material
from app.tokens.wire import Unanswered

if TYPE_CHECKING:
    from pathlib import Path

Signer = Callable[[bytes], bytes]
"""Signs a SHA-256 digest with PS256. Blocking; raises a `BrokerError`."""

ASSERTION_LIFETIME = timedelta(minutes=10)
"""Microsoft's advice is five to ten."""

CLOCK_LEEWAY_S = 300
"""How far another machine's clock may be off before we call its token expired."""


def token_from_file(path: Path) -> str:
    """The token that stands in the file now. Raises `Unanswered`."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise _unreadable(f"the token file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _unreadable(f"the token file {path} holds no token") from None
    if not token:
        raise _unreadable(f"the token file {path} is empty")
    expires = _unverified_expiry(token)
    if expires is not None and expires + CLOCK_LEEWAY_S < time.time():
        raise _unreadable(f"the token in {path} has expired: nobody renews it")
    return token


def _unreadable(meaning: str) -> Unanswered:
    return Unanswered(
        Failure(
            cause=Cause.CREDENTIAL_UNREADABLE,
            meaning=meaning,
            remedy="In Kubernetes: check the projected service account token volume, and the "
            "workload identity webhook where it makes the volume.",
        )
    )


def _unverified_expiry(token: str) -> float | None:
    """When the token says that it ends; Entra alone judges whether that is true."""
    expires = (unverified_payload(token) or {}).get("exp")
    return float(expires) if isinstance(expires, int | float) else None


def signed_assertion(certificate_der: bytes, sign: Signer) -> Material:
    """A credential whose key is elsewhere: each assertion is signed by `sign`."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    thumbprint = certificate.fingerprint(hashes.SHA256())

    def assertion(context: dict[str, Any]) -> str:
        # One required positional argument: that is how MSAL knows to pass the context.
        return make_assertion(
            client_id=context["client_id"],
            audience=context["token_endpoint"],
            thumbprint_sha256=thumbprint,
            now=time.time(),
            sign=sign,
        )

    return Material(
        kind="key_vault_signer",
        id=certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 - a name, no proof
        thumbprint_sha256=thumbprint.hex(),
        fingerprint=hashlib.sha256(
            certificate.public_bytes(serialization.Encoding.DER)
        ).hexdigest(),
        expires_on=certificate.not_valid_after_utc,
        msal_credential=Hidden({"client_assertion": assertion}),
    )


def make_assertion(
    *, client_id: str, audience: str, thumbprint_sha256: bytes, now: float, sign: Signer
) -> str:
    """The JWT that Entra documents for certificate credentials: PS256, named by x5t#S256."""
    issued = int(now)
    header = {"alg": "PS256", "typ": "JWT", "x5t#S256": _text(thumbprint_sha256)}
    claims = {
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": str(uuid.uuid4()),
        "nbf": issued,
        "iat": issued,
        "exp": issued + int(ASSERTION_LIFETIME.total_seconds()),
    }
    signed = f"{_json(header)}.{_json(claims)}"
    return f"{signed}.{_text(sign(hashlib.sha256(signed.encode()).digest()))}"


def _json(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
