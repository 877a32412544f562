"""What functions do; `actions` has the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.actions import Actions
from app.sandbox.dataverse.failures import (
    Failed,
    bad_request,
    no_row,
    not_allowed,
    not_emulated,
)
from app.sandbox.dataverse.messages import Answer, Request, response
from app.sandbox.dataverse.metadata_changes import metadata_changes
from app.sandbox.dataverse.operations import OPERATIONS
from app.sandbox.dataverse.resources import Operation, Row, Rows
from app.sandbox.dataverse.sowing import ORGANIZATION_ID, TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.store import Store
    from app.sandbox.dataverse.write import Writer

VERSION = "9.2.25104.00191"


class Operate:
    """Runs one operation for one request; the caller wraps it in a transaction."""

    def __init__(self, store: Store, writer: Writer, request: Request) -> None:
        self._store = store
        self._writer = writer
        self._request = request

    def answer(self, called: Operation) -> Answer:
        signature = OPERATIONS[called.name]
        if self._request.method != ("GET" if signature.is_function else "POST"):
            raise not_allowed(self._request.method)
        self._check_binding(called)
        match called.name:
            case "WhoAmI":
                return self._who_am_i()
            case "RetrieveVersion":
                return self._respond("RetrieveVersionResponse", {"Version": VERSION})
            case "RetrieveCurrentOrganization":
                return self._organization()
            case "RetrieveTotalRecordCount":
                return self._total(called.arguments)
            case "RetrieveMetadataChanges":
                found = metadata_changes(self._store.schema, called.arguments.get("Query"))
                return self._respond("RetrieveMetadataChangesResponse", found)
            case "RetrieveUserPrivileges" | "RetrieveUserPrivilegeByPrivilegeName":
                return self._privileges(called)
            case "RetrievePrincipalAccess":
                return self._access(called)
        if not signature.is_function:
            return Actions(self._store, self._writer, self._request).answer(called)
        raise not_emulated(f"the function {called.name}")

    def _respond(self, kind: str, content: dict[str, Any]) -> Answer:
        return response(self._request, kind, content)

    def _check_binding(self, called: Operation) -> None:
        wanted = OPERATIONS[called.name].bound
        of_set = wanted.startswith("Collection(")
        logical = wanted.removeprefix("Collection(").removeprefix("mscrm.").rstrip(")")
        bound = called.bound
        if not wanted:
            fits = bound is None
        elif bound is None:
            fits = False
        else:
            fits = isinstance(bound, Rows) == of_set and (
                logical == "crmbaseentity" or self._store.schema.is_a(bound.table, logical)
            )
        if not fits:
            raise bad_request("Request message has unresolved parameters")
        if isinstance(bound, Row) and self._store.version_of(bound.table, bound.existing()) is None:
            raise no_row(bound.table.logical, bound.existing())

    def _bound_id(self, called: Operation) -> str:
        assert isinstance(called.bound, Row)
        return called.bound.existing()

    # ------------------------------------------------------------ functions

    def _who_am_i(self) -> Answer:
        user = self._request.user
        return self._respond(
            "WhoAmIResponse",
            {
                "BusinessUnitId": user.business_unit,
                "UserId": user.id,
                "OrganizationId": ORGANIZATION_ID,
            },
        )

    def _organization(self) -> Answer:
        origin = self._request.base.split("/api/data/")[0]
        return self._respond(
            "RetrieveCurrentOrganizationResponse",
            {
                "Detail": {
                    "OrganizationId": ORGANIZATION_ID,
                    "FriendlyName": "Contoso",
                    "OrganizationVersion": VERSION,
                    "EnvironmentId": ORGANIZATION_ID,
                    "DatacenterId": "00000000-0000-0000-0000-000000000000",
                    "Geo": "EMEA",
                    "TenantId": TENANT_ID,
                    "UrlName": "contoso",
                    "UniqueName": "unq0f2b5d3e6f1c4f0a",
                    "State": "Enabled",
                    "Endpoints": {
                        "Count": 2,
                        "IsReadOnly": False,
                        "Keys": ["WebApplication", "OrganizationDataService"],
                        "Values": [f"{origin}/", f"{origin}/api/data/v9.2/"],
                    },
                }
            },
        )

    def _total(self, arguments: Mapping[str, Any]) -> Answer:
        names = arguments.get("EntityNames")
        if not isinstance(names, list):
            raise bad_request("Required field 'EntityNames' is missing")
        counts: list[int] = []
        for name in names:
            table = self._store.schema.tables.get(str(name))
            if table is None:
                raise Failed(400, "0x80040217", f"The entity with a name = '{name}' was not found.")
            self._request.user.need("Read", table)
            (count,) = self._store.all(f"SELECT COUNT(*) FROM {table.logical}")[0]  # noqa: S608
            counts.append(count)
        return self._respond(
            "RetrieveTotalRecordCountResponse",
            {
                "EntityRecordCountCollection": {
                    "Count": len(names),
                    "IsReadOnly": False,
                    "Keys": names,
                    "Values": counts,
                }
            },
        )

    def _privileges(self, called: Operation) -> Answer:
        self._request.user.need("Read", self._store.schema["systemuser"])
        user_id = self._bound_id(called)
        only = called.arguments.get("PrivilegeName")
        rows = self._store.all(
            "SELECT DISTINCT p.privilegeid, p.name FROM systemuserroles u "
            "JOIN roleprivileges r USING (roleid) JOIN privilege p USING (privilegeid) "
            "WHERE u.systemuserid = ? ORDER BY p.name",
            (user_id,),
        )
        return self._respond(
            f"{called.name}Response",
            {
                "RolePrivileges": [
                    {
                        "Depth": "Global",
                        "PrivilegeId": privilege,
                        "BusinessUnitId": self._request.user.business_unit,
                        "PrivilegeName": name,
                        "RecordFilterId": "00000000-0000-0000-0000-000000000000",
                    }
                    for privilege, name in rows
                    if only is None or name == only
                ]
            },
        )

    def _access(self, called: Operation) -> Answer:
        target = called.arguments.get("Target")
        link = target.get("@odata.id") if isinstance(target, dict) else None
        table, _ = self._writer.reference(link, "RetrievePrincipalAccess")
        held = {
            name
            for (name,) in self._store.all(
                "SELECT p.name FROM systemuserroles u JOIN roleprivileges r USING (roleid) "
                "JOIN privilege p USING (privilegeid) WHERE u.systemuserid = ?",
                (self._bound_id(called),),
            )
        }
        kinds = ("Read", "Write", "Append", "AppendTo", "Create", "Delete", "Share", "Assign")
        rights = [f"{k}Access" for k in kinds if f"prv{k}{table.privilege}" in held]
        return self._respond(
            "RetrievePrincipalAccessResponse", {"AccessRights": ", ".join(rights) or "None"}
        )
