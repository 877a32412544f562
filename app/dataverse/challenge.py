"""What a 401 of Dataverse's tells about the environment: its tenant, and what it calls itself.

The header is comma separated and unquoted (dataverse-reference 5):

    Bearer authorization_uri=https://login.microsoftonline.com/<tenant>/oauth2/authorize,
    resource_id=https://orgxyz.crm11.dynamics.com/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

CHALLENGE_CHARACTERS_MAX = 2048

_MEMBER = re.compile(r'(authorization_uri|resource_id)\s*=\s*"?([^\s",]+)')
_TENANT = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_ORIGIN = re.compile(r"https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Challenge:
    """In lower case, so that they can be compared; None for what it does not say, or not well."""

    tenant_id: str | None = None
    resource: str | None = None
    """An origin, without a slash at its end."""


def read_challenge(value: bytes | None) -> Challenge:
    """From a WWW-Authenticate header, as far as it can be read."""
    text = (value or b"")[:CHALLENGE_CHARACTERS_MAX].decode("latin-1")
    members = dict(_MEMBER.findall(text))
    return Challenge(
        tenant_id=_tenant(members.get("authorization_uri", "")),
        resource=_origin(members.get("resource_id", "")),
    )


def _tenant(address: str) -> str | None:
    try:
        steps = urlsplit(address).path.split("/")
    except ValueError:
        return None
    tenant = steps[1] if len(steps) > 1 else ""
    return tenant.lower() if _TENANT.fullmatch(tenant) else None


def _origin(address: str) -> str | None:
    origin = address.rstrip("/").lower()
    return origin if _ORIGIN.fullmatch(origin) else None
