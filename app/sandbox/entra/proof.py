"""Is there such an application, and does the request prove to be from it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.entra.assertions import ASSERTION_TYPE, check_assertion
from app.sandbox.entra.refusals import Refused

if TYPE_CHECKING:
    from datetime import datetime

    from app.sandbox.entra.directory import RegisteredApplication, Tenant
    from app.sandbox.entra.request import TokenRequest


def usable_application(tenant: Tenant, client_id: str) -> RegisteredApplication:
    """Raises `Refused` for one that is unknown, not provisioned or disabled."""
    application = tenant.application(client_id)
    if application is None:
        raise Refused(700016, client_id=client_id, tenant=tenant.tenant_id)
    if not application.provisioned:
        raise Refused(7000229, client_id=client_id, tenant=tenant.tenant_id)
    if not application.enabled:
        raise Refused(7000112, client_id=client_id, name=application.name)
    return application


def check_proof(
    request: TokenRequest,
    application: RegisteredApplication,
    *,
    audiences: frozenset[str],
    now: datetime,
) -> str:
    """Return what was accepted: `secret`, `certificate` or `federated`. Raises `Refused`."""
    if request.assertion is not None:
        if request.assertion_type != ASSERTION_TYPE:
            raise Refused(900144, parameter="client_assertion_type")
        return check_assertion(request.assertion, application, audiences=audiences, now=now)
    if not request.secrets:
        raise Refused(7000218)
    # Every reading is compared with every secret, whichever fits: the time tells nothing.
    comparisons = [
        (secret, secret.is_value(candidate))
        for secret in application.secrets
        for candidate in request.secrets
    ]
    fitting = [secret for secret, fits in comparisons if fits]
    if not fitting:
        raise Refused(7000215, client_id=application.client_id)
    if all(secret.expires is not None and secret.expires <= now for secret in fitting):
        raise Refused(7000222, client_id=application.client_id)
    return "secret"


def assertion_audiences(public_url: str, tenant: Tenant, *, asked: str) -> frozenset[str]:
    """The token endpoint and the issuer, of either version, under either name of the tenant."""
    endings = ("", "/v2.0", "/oauth2/token", "/oauth2/v2.0/token")
    names = {tenant.tenant_id, tenant.domain, asked}
    return frozenset(f"{public_url}/{name}{ending}".lower() for name in names for ending in endings)
