"""What functions and actions do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from app.sandbox.dataverse.failures import (
    Failed,
    bad_payload,
    bad_request,
    no_row,
    not_allowed,
    not_emulated,
)
from app.sandbox.dataverse.messages import Answer, Request, json_answer, no_content
from app.sandbox.dataverse.metadata_changes import metadata_changes
from app.sandbox.dataverse.operations import OPERATIONS
from app.sandbox.dataverse.payloads import read_json
from app.sandbox.dataverse.resources import Operation, Resolver, Row, Rows
from app.sandbox.dataverse.seed import ORGANIZATION_ID, TENANT_ID
from app.sandbox.dataverse.targets import read_segments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.schema import Table
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
        if signature.is_function != (self._request.method == "GET"):
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
            case "CreateMultiple" | "UpdateMultiple" | "UpsertMultiple":
                return self._multiple(called)
            case "DeleteMultiple":
                raise bad_request("DeleteMultiple is for elastic tables only.", "0x80040800")
            case "new_AddNoteToContact":
                return self._add_note(called)
            case "new_CloseProject":
                return self._close_project(called)
            case "AddPrivilegesRole":
                return self._add_privileges(called)
            case "AddMembersTeam":
                return self._add_members(called)
            case "WinOpportunity":
                return self._win_opportunity()
            case "BulkDelete":
                return self._bulk_delete()
        kind = "function" if signature.is_function else "action"
        raise not_emulated(f"the {kind} {called.name}")

    def _respond(self, kind: str, content: dict[str, Any]) -> Answer:
        where = f"{self._request.base}/$metadata#Microsoft.Dynamics.CRM.{kind}"
        return json_answer({"@odata.context": where, **content})

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

    # ------------------------------------------------------------ many rows

    def _multiple(self, called: Operation) -> Answer:
        assert isinstance(called.bound, Rows)
        table = called.bound.table
        targets = read_json(self._request, called.name).get("Targets")
        if not isinstance(targets, list) or not targets:
            raise bad_payload(called.name, "Required field 'Targets' is missing")
        ids: list[str] = []
        for item in targets:
            if not isinstance(item, dict):
                raise bad_payload(called.name, "Each of the Targets is an object.")
            if str(item.get("@odata.type", "")).lstrip("#") != table.type_name:
                raise bad_payload(
                    called.name,
                    f"Each of the Targets needs '@odata.type': '{table.type_name}'.",
                )
            ids.append(self._one_of_many(called.name, table, item))
        if called.name == "CreateMultiple":
            return self._respond("CreateMultipleResponse", {"Ids": ids})
        return no_content()

    def _one_of_many(self, name: str, table: Table, item: dict[str, Any]) -> str:
        if name == "CreateMultiple":
            return self._writer.create(table, item)
        found = self._addressed(table, item)
        exists = found.id is not None and self._store.version_of(table, found.id) is not None
        if exists:
            assert found.id is not None
            self._writer.update(table, found.id, item)
            return found.id
        if name == "UpdateMultiple":
            raise no_row(table.logical, found.id or "")
        return self._writer.create(table, item, row_id=found.id, keys=found.keys)

    def _addressed(self, table: Table, item: Mapping[str, Any]) -> Row:
        link = item.get("@odata.id")
        if isinstance(link, str):
            segments = read_segments(re.sub(r"^.*/api/data/v[\d.]+/|^/", "", link))
            found = Resolver(self._store, frozenset(), {}).resolve(segments)
            if not isinstance(found, Row) or found.table is not table:
                raise bad_request(f"The @odata.id does not name a row of {table.set_name}.")
            return found
        row_id = item.get(table.pk)
        if not isinstance(row_id, str):
            raise bad_request("EdmEntityObject passed should have the key property value set.")
        return Row(table, row_id.lower())

    # ------------------------------------------------------------ actions

    def _add_note(self, called: Operation) -> Answer:
        body = read_json(self._request, called.name)
        schema = self._store.schema
        contact_id = self._bound_id(called)
        self._request.user.need("Read", schema["contact"])
        self._writer.create(
            schema["annotation"],
            {"subject": body.get("NoteTitle"), "notetext": body.get("NoteText")},
            preset={"objectid": contact_id, "objectid__type": "contact"},
        )
        return no_content()

    def _close_project(self, called: Operation) -> Answer:
        body = read_json(self._request, called.name)
        if not isinstance(body.get("Reason"), str):
            raise bad_request("Required field 'Reason' is missing for action 'new_CloseProject'")
        self._writer.update(
            self._store.schema["new_project"],
            self._bound_id(called),
            {"new_status": 2, "statecode": 1, "new_secretnotes": f"Closed: {body['Reason']}"},
        )
        return no_content()

    def _add_privileges(self, called: Operation) -> Answer:
        body = read_json(self._request, called.name)
        role = self._bound_id(called)
        self._request.user.need("Write", self._store.schema["role"])
        relation = next(
            r for r in self._store.schema.many_to_many if r.name == "roleprivileges_association"
        )
        for item in body.get("Privileges") or []:
            privilege = str(item.get("PrivilegeId", "")).lower()
            if self._store.version_of(self._store.schema["privilege"], privilege) is None:
                raise no_row("privilege", privilege)
            self._store.disassociate(relation, role, privilege)
            self._store.associate(relation, role, privilege)
        return no_content()

    def _add_members(self, called: Operation) -> Answer:
        body = read_json(self._request, called.name)
        schema = self._store.schema
        nav = schema["team"].navs["teammembership_association"]
        for item in body.get("Members") or []:
            user = str(item.get("systemuserid") or item.get("ownerid") or "").lower()
            if self._store.version_of(schema["systemuser"], user) is None:
                raise no_row("systemuser", user)
            self._writer.associate(
                schema["team"], self._bound_id(called), nav, (schema["systemuser"], user)
            )
        return no_content()

    def _win_opportunity(self) -> Answer:
        body = read_json(self._request, "WinOpportunity")
        close = body.get("OpportunityClose")
        link = close.get("opportunityid@odata.bind") if isinstance(close, dict) else None
        table, row_id = self._writer.reference(link, "WinOpportunity")
        self._writer.update(table, row_id, {"statecode": 1})
        return no_content()

    def _bulk_delete(self) -> Answer:
        """Deletes at once what `In` conditions name; the real one is a job that runs later."""
        body = read_json(self._request, "BulkDelete")
        for query in body.get("QuerySet") or []:
            table = self._store.schema.tables.get(str(query.get("EntityName")))
            conditions = (query.get("Criteria") or {}).get("Conditions") or []
            if table is None:
                raise bad_request("The EntityName of a query is not known.")
            if len(conditions) != 1 or conditions[0].get("Operator") != "In":
                raise not_emulated("BulkDelete with other conditions than one In on the key")
            if conditions[0].get("AttributeName") != table.pk:
                raise not_emulated("BulkDelete by other columns than the key")
            for value in conditions[0].get("Values") or []:
                row_id = str(value.get("Value", "")).lower()
                if self._store.version_of(table, row_id) is not None:
                    self._writer.delete(table, row_id)
        return self._respond("BulkDeleteResponse", {"JobId": str(uuid4())})
