"""What actions do: many rows at once, roles and teams, the sandbox's own custom actions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from app.sandbox.dataverse.failures import bad_payload, bad_request, no_row, not_emulated
from app.sandbox.dataverse.messages import Answer, Request, no_content, response
from app.sandbox.dataverse.payloads import read_json
from app.sandbox.dataverse.resources import Operation, Resolver, Row, Rows
from app.sandbox.dataverse.targets import read_segments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.schema import Table
    from app.sandbox.dataverse.store import Store
    from app.sandbox.dataverse.write import Writer


class Actions:
    """Runs one action for one request; the caller wraps it in a transaction."""

    def __init__(self, store: Store, writer: Writer, request: Request) -> None:
        self._store = store
        self._writer = writer
        self._request = request

    def answer(self, called: Operation) -> Answer:
        match called.name:
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
        raise not_emulated(f"the action {called.name}")

    def _bound_id(self, called: Operation) -> str:
        assert isinstance(called.bound, Row)
        return called.bound.existing()

    # ------------------------------------------------------------ many rows

    def _multiple(self, called: Operation) -> Answer:
        assert isinstance(called.bound, Rows)
        table = called.bound.table
        targets = _objects(read_json(self._request, called.name), "Targets", called.name)
        ids: list[str] = []
        for item in targets:
            if str(item.get("@odata.type", "")).lstrip("#") != table.type_name:
                raise bad_payload(
                    called.name,
                    f"Each of the Targets needs '@odata.type': '{table.type_name}'.",
                )
            ids.append(self._one_of_many(called.name, table, item))
        if called.name == "CreateMultiple":
            return response(self._request, "CreateMultipleResponse", {"Ids": ids})
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
            found = Resolver(self._store, self._request.user, frozenset(), {}).resolve(segments)
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
        for item in _objects(body, "Privileges", called.name):
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
        for item in _objects(body, "Members", called.name):
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
        for query in _objects(body, "QuerySet", "BulkDelete"):
            table = self._store.schema.tables.get(str(query.get("EntityName")))
            if table is None:
                raise bad_request("The EntityName of a query is not known.")
            criteria = query.get("Criteria")
            if not isinstance(criteria, dict):
                raise bad_payload("BulkDelete", "A query needs Criteria.")
            conditions = _objects(criteria, "Conditions", "BulkDelete")
            if len(conditions) != 1 or conditions[0].get("Operator") != "In":
                raise not_emulated("BulkDelete with other conditions than one In on the key")
            if conditions[0].get("AttributeName") != table.pk:
                raise not_emulated("BulkDelete by other columns than the key")
            for value in _objects(conditions[0], "Values", "BulkDelete"):
                row_id = str(value.get("Value", "")).lower()
                if self._store.version_of(table, row_id) is not None:
                    self._writer.delete(table, row_id)
        return response(self._request, "BulkDeleteResponse", {"JobId": str(uuid4())})


def _objects(body: Mapping[str, Any], name: str, about: str) -> list[dict[str, Any]]:
    """A list of objects, with at least one. Raises the 400 for anything else."""
    found = body.get(name)
    if not isinstance(found, list) or not found:
        raise bad_payload(about, f"Required field '{name}' is missing")
    if not all(isinstance(item, dict) for item in found):
        raise bad_payload(about, f"Each of the {name} is an object.")
    return found
