"""An emulated Dataverse environment that trusts the emulated Entra and knows its applications."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.sandbox.credentials import (
    ADMINISTRATOR,
    MANAGED_IDENTITY,
    OF_LEGACY_JOB,
    WITH_CERTIFICATE,
    WITH_SECRET,
)
from app.sandbox.dataverse.app import DataverseApp
from app.sandbox.dataverse.rights import SYSTEM_ADMINISTRATOR, add_application_user

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.protection import Limits
    from app.sandbox.entra.app import EntraApp
    from app.sandbox.entra.directory import Tenant

ROLES: Mapping[str, tuple[str, ...]] = {
    WITH_SECRET: ("Invoice Integration",),
    WITH_CERTIFICATE: ("Service Reader",),
    OF_LEGACY_JOB: ("Service Reader",),
    MANAGED_IDENTITY: ("Service Reader",),
    ADMINISTRATOR: (SYSTEM_ADMINISTRATOR,),
}
"""Security roles by application; one that is not named has no user, and so no access."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    name: str
    url: str
    app: DataverseApp


@dataclass(frozen=True, slots=True, kw_only=True)
class _Principal:
    application_id: str
    claims: Mapping[str, Any] = field(repr=False)


def make_environment(
    *, name: str, url: str, entra: EntraApp, tenant: Tenant, limits: Limits | None
) -> Environment:
    """Seeded data, and an application user for each application that has roles."""

    def verify(token: str) -> _Principal | None:
        claims = entra.verify(token, url)
        # A token without an application id speaks for nobody that this environment knows.
        if claims is None or "appid" not in claims:
            return None
        return _Principal(application_id=claims["appid"], claims=claims)

    app = DataverseApp(
        verify_token=verify,
        public_url=url,
        authority=f"{entra.public_url}/{tenant.tenant_id}",
        limits=limits,
        clock=entra.now,
    )
    for application in tenant.applications.values():
        if roles := ROLES.get(application.name):
            add_application_user(
                app.store,
                application_id=application.client_id,
                object_id=application.object_id,
                name=application.name,
                roles=roles,
            )
    return Environment(name=name, url=url, app=app)
