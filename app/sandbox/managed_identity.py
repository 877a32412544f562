"""The endpoints that a workload in Azure asks for its own tokens: App Service's and IMDS's.

Answers hold what every SDK needs, in the order that .NET needs it (dataverse-reference 8.3).
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from uuid import uuid4

from app.sandbox.entra.faults import Faults, Scene
from app.sandbox.exchange import (
    Answer,
    Receive,
    Scope,
    Send,
    cut,
    header,
    json_answer,
    respond,
)

if TYPE_CHECKING:
    from app.sandbox.entra.app import EntraApp
    from app.sandbox.entra.directory import RegisteredApplication, Tenant

APP_SERVICE_PATH = "/msi/token"
IMDS_PATH = "/metadata/identity/oauth2/token"


class ManagedIdentityApp:
    """Both protocols on one address. `assigned` are the identities that the workload has.

    Who names none gets the first one, as a system-assigned identity.
    """

    def __init__(
        self,
        *,
        entra: EntraApp,
        tenant: Tenant,
        assigned: tuple[RegisteredApplication, ...],
    ) -> None:
        self.assigned = assigned
        self.faults = Faults()
        self.requests = 0
        self.identity_header = secrets.token_hex(16)
        """What App Service puts into IDENTITY_HEADER, against requests forged elsewhere."""
        self._entra = entra
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"].rstrip("/")
        if scope["method"] != "GET" or path not in {APP_SERVICE_PATH, IMDS_PATH}:
            await respond(send, json_answer({"error": "not_found"}, status=404))
            return
        self.requests += 1
        fault = self.faults.meet(Scene, client_id=None)
        if fault is not None and await fault.happens():
            await (respond(send, fault.answer) if fault.answer else cut(scope, receive))
            return
        await respond(send, self._imds(scope) if path == IMDS_PATH else self._app_service(scope))

    def _app_service(self, scope: Scope) -> Answer:
        given = header(scope, "x-identity-header") or ""
        if not hmac.compare_digest(given.encode(), self.identity_header.encode()):
            return _app_service_error(401, "The X-IDENTITY-HEADER is missing or wrong.")
        query = _query(scope)
        if query.get("api-version") != "2019-08-01":
            return _app_service_error(400, "The api-version must be 2019-08-01.")
        if "resource" not in query:
            return _app_service_error(400, "The parameter resource is missing.")
        identity = self._identity(query)
        if identity is None:
            return _app_service_error(400, "No User Assigned or Delegated Managed Identity found.")
        content = self._token(query["resource"], identity)
        if content is None:
            return _app_service_error(400, f"Unknown resource {query['resource']}.")
        return json_answer(content)

    def _imds(self, scope: Scope) -> Answer:
        query = _query(scope)
        if (header(scope, "metadata") or "").lower() != "true" or header(scope, "x-forwarded-for"):
            return _imds_error("invalid_request", "Required metadata header not specified")
        if "api-version" not in query:
            return _imds_error(
                "invalid_request", "Required query variable 'api-version' is missing"
            )
        if "resource" not in query:
            return _imds_error("invalid_request", "Required query variable 'resource' is missing")
        identity = self._identity(query)
        if identity is None:
            return _imds_error("invalid_request", "Identity not found")
        content = self._token(query["resource"], identity)
        if content is None:
            return _imds_error(
                "invalid_resource",
                f"AADSTS500011: The resource principal named {query['resource']} was not found in"
                f" the tenant named {self._tenant.tenant_id}.",
            )
        return json_answer(content)

    def _identity(self, query: dict[str, str]) -> RegisteredApplication | None:
        candidates = self.assigned
        if "client_id" in query:
            wanted = query["client_id"].lower()
            candidates = tuple(a for a in candidates if a.client_id.lower() == wanted)
        if object_id := query.get("object_id") or query.get("principal_id"):
            candidates = tuple(a for a in candidates if a.object_id == object_id.lower())
        return next((a for a in candidates if a.enabled), None)

    def _token(self, uri: str, identity: RegisteredApplication) -> dict[str, Any] | None:
        resource = self._tenant.resource(uri)
        if resource is None:
            return None
        issued = self._entra.issue(
            tenant=self._tenant,
            application=identity,
            resource=resource,
            audience=uri,
            by_certificate=True,
        )
        return {
            "access_token": issued.access_token,
            "token_type": "Bearer",
            "expires_in": str(int(issued.lifetime.total_seconds())),
            "not_before": str(issued.not_before),
            "expires_on": str(issued.expires_on),
            "resource": uri,
            "client_id": identity.client_id,
        }


def _query(scope: Scope) -> dict[str, str]:
    parsed = parse_qs(scope["query_string"].decode("latin-1"))
    return {name: values[0] for name, values in parsed.items()}


def _app_service_error(status: int, message: str) -> Answer:
    content = {"statusCode": status, "message": message, "correlationId": str(uuid4())}
    return json_answer(content, status=status)


def _imds_error(error: str, description: str) -> Answer:
    return json_answer({"error": error, "error_description": description}, status=400)
