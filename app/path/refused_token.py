"""Dataverse knows neither a token nor the one that came after it: why that may be.

    the environment calls itself otherwise  ─► its url in the configuration is not its own
    it belongs to another tenant            ─► the application is a stranger there
    neither                                 ─► what the doctor finds

The token is read without trusting it: nothing is decided by what it says, it is only compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.dataverse.answer_headers import header
from app.dataverse.challenge import read_challenge
from app.errors import UpstreamFailed
from app.tokens.claims import read_unverified

if TYPE_CHECKING:
    from app.dataverse.message import Headers
    from app.tokens.lease import Lease


class Likely(NamedTuple):
    cause: str
    meaning: str
    remedy: str


def refused_token(environment: str, lease: Lease, headers: Headers) -> UpstreamFailed:
    """`headers` are those of the last 401. Quotes ids and addresses, never the token."""
    likely = likely_cause(environment, lease, headers)
    return UpstreamFailed(
        "upstream-refused-token",
        f"{environment} refused the broker's token of {lease.application}: "
        f"{likely.meaning}. {likely.remedy}",
        extra={
            "cause": likely.cause,
            "application": lease.application,
            "remedy": likely.remedy,
        },
    )


def likely_cause(environment: str, lease: Lease, headers: Headers) -> Likely:
    challenge = read_challenge(header(headers, b"www-authenticate"))
    own = challenge.resource
    if own is not None and _plain(own) != _plain(lease.resource):
        return Likely(
            cause="environment-url",
            meaning=f"the environment calls itself {own}, and the token is for {lease.resource}",
            remedy=f"Write {own} as the url of {environment}.",
        )
    claims = read_unverified(lease.access_token())
    issued_by = (claims.tenant_id or "").lower() if claims is not None else ""
    if challenge.tenant_id is not None and issued_by not in {"", challenge.tenant_id}:
        return Likely(
            cause="tenant",
            meaning=f"the environment belongs to the tenant {challenge.tenant_id}, and the token"
            f" comes from {issued_by}",
            remedy="Register the application in the environment's tenant, and write that as the"
            f" tenant_id of {lease.application}.",
        )
    return Likely(
        cause="token-refused",
        meaning="it does not say why",
        remedy=f"Ask token-broker doctor --environment {environment}"
        f" --application {lease.application}.",
    )


def _plain(url: str) -> str:
    """As audiences are compared; `org.api.crm4` and `org.crm4` are one."""
    return url.lower().rstrip("/").replace(".api.crm", ".crm")
