"""Creating, changing and deleting rows: binds, deep inserts, computed columns, keys, cascades."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from app.sandbox.dataverse.computed import check_keys, compute, defaults, remove
from app.sandbox.dataverse.failures import (
    Failed,
    already_exists,
    bad_payload,
    bad_request,
    no_row,
)
from app.sandbox.dataverse.payloads import stored_value
from app.sandbox.dataverse.relations import ends
from app.sandbox.dataverse.resources import Resolver, Row
from app.sandbox.dataverse.store import type_column
from app.sandbox.dataverse.targets import VERSIONED, read_segments

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Nav, Table
    from app.sandbox.dataverse.store import Store

_DEEP_MAX = 10


class Writer:
    """Writes for one request. `base` and `references` say what a link in a body may look like."""

    def __init__(
        self,
        store: Store,
        *,
        base: str,
        user: User,
        now: datetime,
        references: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._schema = store.schema
        self._base = base
        self._user = user
        self._stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._references = references or {}

    # ------------------------------------------------------------ rows

    def create(
        self,
        table: Table,
        body: Mapping[str, Any],
        *,
        row_id: str | None = None,
        keys: Mapping[str, Any] | None = None,
        preset: Mapping[str, Any] | None = None,
        depth: int = 0,
    ) -> str:
        """The new row's id. `preset`: values that a parent sets; `keys`: those of the URL."""
        self._writable(table, "Create")
        if depth > _DEEP_MAX:
            raise bad_request("The deep insert is nested too deeply.")
        self._user.need("Create", table)
        for named in (keys, preset):
            if named:
                self._user.touch("Create", table, *(n for n in named if n in table.by_name))
        values, later = self._values(table, body, creating=True, depth=depth)
        values = {
            **defaults(table, self._user, self._stamp),
            **(keys or {}),
            **values,
            **(preset or {}),
        }
        new_id = row_id or values.get(table.pk) or str(uuid4())
        values[table.pk] = new_id
        if table.base == "principal":
            values["ownerid"] = new_id
        compute(self._store, table, values, before={})
        check_keys(self._store, table, values, new_id)
        try:
            self._store.insert(table, values)
        except sqlite3.IntegrityError as error:
            raise Failed(412, "0x80040237", "Cannot insert duplicate key.") from error
        for nav, items in later:
            self._add_to(table, new_id, nav, items, depth=depth)
        return new_id

    def update(self, table: Table, row_id: str, body: Mapping[str, Any]) -> None:
        """Raises the 404 where there is no such row."""
        self._writable(table, "Update")
        self._user.need("Write", table)
        before = self._store.row(table, row_id)
        if before is None:
            raise no_row(table.logical, row_id)
        values, later = self._values(table, body, creating=False, depth=0)
        values.pop(table.pk, None)
        self._set(table, row_id, values, before)
        for nav, items in later:
            self._add_to(table, row_id, nav, items, depth=0)

    def set_lookup(
        self, table: Table, row_id: str, nav: Nav, far: tuple[Table, str] | None
    ) -> None:
        """Point a lookup elsewhere, or nowhere."""
        self._user.need("Write", table)
        before = self._store.row(table, row_id)
        if before is None:
            raise no_row(table.logical, row_id)
        self._set(table, row_id, self._lookup(table, nav, far), before)

    def delete(self, table: Table, row_id: str) -> None:
        """With what cascades from it; lookups elsewhere are emptied."""
        self._writable(table, "Delete")
        self._user.need("Delete", table)
        if self._store.version_of(table, row_id) is None:
            raise no_row(table.logical, row_id)
        remove(self._store, table, row_id)

    def _writable(self, table: Table, message: str) -> None:
        """Rows are written as what they are: a task, not an activity; a user, not a principal."""
        if table.abstract or self._schema.derived(table.logical):
            raise bad_request(
                f"The '{message}' method does not support entities of type '{table.logical}'. "
                "MessageProcessorCache returned MessageProcessor.Empty.",
                "0x80040800",
            )

    def set_property(self, table: Table, row_id: str, name: str, value: Any) -> None:
        column = table.by_property[name]
        if column.kind == "lookup":
            raise bad_request(
                "CRM do not support direct update of Entity Reference properties, Use Navigation "
                "properties instead.",
                "0x80048d19",
            )
        self.update(table, row_id, {name: value})

    # ------------------------------------------------------------ references

    def reference(self, text: Any, about: str) -> tuple[Table, str]:
        """The row that `/contacts(…)`, a full URL or `$1` names."""
        if not isinstance(text, str):
            raise bad_payload(about, "System.UriFormatException : Invalid URI.")
        path = self._below(text, about)
        resolver = Resolver(self._store, self._user, frozenset(), {})
        segments = read_segments(path)
        found = resolver.resolve(segments) if segments else None
        if not isinstance(found, Row):
            raise bad_payload(about, f"Resource not found for the segment '{path}'.")
        row_id = found.existing()
        if self._store.version_of(found.table, row_id) is None:
            raise no_row(found.table.logical, row_id)
        return found.table, row_id

    def _below(self, text: str, about: str) -> str:
        head, slash, rest = text.partition("/")
        if head.startswith("$"):
            known = self._references.get(head[1:])
            if known is None:
                raise bad_request(
                    f"Content-ID Reference: '{head}' does not exist in the batch context."
                )
            return known + slash + rest
        origin = self._base.split("/api/data/", 1)[0]
        if text.startswith(("http://", "https://")):
            if not text.lower().startswith(f"{origin.lower()}/"):
                raise bad_payload(
                    about, f"Microsoft.OData.ODataException : The URL is not below '{self._base}'."
                )
            text = text[len(origin) :]
        versioned = VERSIONED.match(text)
        return (versioned[2] or "") if versioned else text.removeprefix("/")

    # ------------------------------------------------------------ values

    def _values(
        self, table: Table, body: Mapping[str, Any], *, creating: bool, depth: int
    ) -> tuple[dict[str, Any], list[tuple[Nav, list[Any]]]]:
        """What to store, and what to do once the row is there, in the body's order."""
        values: dict[str, Any] = {}
        later: list[tuple[Nav, list[Any]]] = []
        operation = "Create" if creating else "Write"
        for name, value in body.items():
            head, at, annotation = name.partition("@")
            if at and annotation == "odata.bind":
                nav = table.navs.get(head)
                if nav is None:
                    raise bad_payload(
                        table.set_name,
                        f"Microsoft.OData.ODataException : An undeclared property '{head}' which "
                        "only has property annotations in the payload but no property value was "
                        "found in the payload. In OData, only declared navigation properties and "
                        "declared named streams can be represented as properties without values.",
                    )
                if nav.is_collection:
                    if not isinstance(value, list):
                        raise bad_payload(table.set_name, f"A list was expected for '{name}'.")
                    later.append((nav, value))
                else:
                    far = None if value is None else self.reference(value, table.set_name)
                    values |= self._lookup(table, nav, far, operation=operation)
            elif at:
                if name == "@odata.type":
                    self._check_type(table, value)
            elif name in table.by_property:
                column = table.by_property[name]
                if column.kind == "lookup":
                    raise bad_payload(
                        table.set_name,
                        "CRM do not support direct update of Entity Reference properties, Use "
                        "Navigation properties instead.",
                    )
                self._user.touch(operation, table, column.name)
                if column.writable:
                    values[column.name] = stored_value(table, column, value)
            elif name in table.navs:
                self._nested(table, name, value, values, later, creating=creating, depth=depth)
            else:
                raise bad_payload(
                    table.set_name,
                    f"Microsoft.Crm.CrmException : Invalid property '{name}' was found in entity "
                    f"'{table.type_name}'. ---> Microsoft.OData.ODataException: The property "
                    f"'{name}' does not exist on type '{table.type_name}'. Make sure to only use "
                    "property names that are defined by the type.",
                )
        return values, later

    def _nested(
        self,
        table: Table,
        name: str,
        value: Any,
        values: dict[str, Any],
        later: list[tuple[Nav, list[Any]]],
        *,
        creating: bool,
        depth: int,
    ) -> None:
        nav = table.navs[name]
        if value is None and not nav.is_collection:
            operation = "Create" if creating else "Write"
            values |= self._lookup(table, nav, None, operation=operation)
            return
        if not creating:
            raise bad_payload(
                table.set_name, f"Deep update of the navigation property '{name}' is not supported."
            )
        if nav.is_collection:
            if not isinstance(value, list):
                raise bad_payload(table.set_name, f"A list was expected for '{name}'.")
            later.append((nav, value))
            return
        if not isinstance(value, dict):
            raise bad_payload(table.set_name, f"An object was expected for '{name}'.")
        target = self._schema[nav.target]
        far = (target, self.create(target, value, depth=depth + 1))
        values |= self._lookup(table, nav, far, operation="Create", created=True)

    def _lookup(
        self,
        table: Table,
        nav: Nav,
        far: tuple[Table, str] | None,
        *,
        operation: str = "Write",
        created: bool = False,
    ) -> dict[str, Any]:
        column = table.by_name[nav.lookup]
        self._user.touch(operation, table, column.name)
        if not column.writable:
            return {}
        values: dict[str, Any] = {column.name: None}
        if column.polymorphic:
            values[type_column(column.name)] = None
        if column.name == "ownerid":
            if far is None:
                raise bad_payload(table.set_name, "The owner of a row cannot be emptied.")
            self._user.need("Assign", table)
            user = far[1] if far[0].logical == "systemuser" else None
            values |= {"owninguser": user, "owningteam": None if user else far[1]}
        if far is None:
            return values
        if not self._schema.is_a(far[0], nav.target):
            raise bad_payload(
                table.set_name,
                f"A record of type {far[0].logical} cannot be set for '{nav.name}'.",
            )
        self._user.need("Append", table)
        if not created:
            self._user.need("AppendTo", far[0])
        values[column.name] = far[1]
        if column.polymorphic:
            values[type_column(column.name)] = far[0].logical
        return values

    def _check_type(self, table: Table, name: Any) -> None:
        if str(name).lstrip("#") != table.type_name:
            raise bad_payload(
                table.set_name,
                f"Microsoft.OData.ODataException : A type named '{name}' does not fit "
                f"'{table.type_name}'.",
            )

    def _add_to(self, table: Table, row_id: str, nav: Nav, items: list[Any], *, depth: int) -> None:
        """Bind or create the members of a collection of a row."""
        target = self._schema[nav.target]
        for item in items:
            if isinstance(item, str):
                far = self.reference(item, table.set_name)
                self.associate(table, row_id, nav, far)
            elif isinstance(item, dict):
                preset: dict[str, Any] = {}
                if nav.kind == "many":
                    column = target.by_name[nav.lookup]
                    preset[column.name] = row_id
                    if column.polymorphic:
                        preset[type_column(column.name)] = table.logical
                new_id = self.create(target, item, preset=preset, depth=depth + 1)
                if nav.kind == "associated":
                    self.associate(table, row_id, nav, (target, new_id))
            else:
                raise bad_payload(table.set_name, f"An object was expected in '{nav.name}'.")

    # ------------------------------------------------------------ associations

    def associate(self, table: Table, row_id: str, nav: Nav, far: tuple[Table, str]) -> None:
        """For one-to-many it is the far row whose lookup changes."""
        target = self._schema[nav.target]
        if not self._schema.is_a(far[0], nav.target):
            raise bad_request(
                f"A record of type {far[0].logical} cannot be associated by '{nav.name}'."
            )
        if nav.kind == "many":
            back = target.navs[nav.partner]
            self.set_lookup(far[0], far[1], back, (table, row_id))
            return
        assert nav.relation is not None
        self._user.need("Append", table)
        self._user.need("AppendTo", target)
        left, right = self._sides(nav, row_id, far[1])
        try:
            self._store.associate(nav.relation, left, right)
        except sqlite3.IntegrityError as error:
            raise already_exists() from error

    def disassociate(self, table: Table, row_id: str, nav: Nav, far: tuple[Table, str]) -> None:
        if nav.kind == "many":
            target = self._schema[nav.target]
            self.set_lookup(far[0], far[1], target.navs[nav.partner], None)
            return
        assert nav.relation is not None
        self._user.need("Append", table)
        self._user.need("AppendTo", self._schema[nav.target])
        self._store.disassociate(nav.relation, *self._sides(nav, row_id, far[1]))

    def _sides(self, nav: Nav, near: str, far: str) -> tuple[str, str]:
        assert nav.relation is not None
        return (near, far) if ends(nav)[0] == nav.relation.left_column else (far, near)

    def _set(
        self, table: Table, row_id: str, values: dict[str, Any], before: Mapping[str, Any]
    ) -> None:
        if "modifiedon" in table.by_name:
            values["modifiedon"] = self._stamp
        if "modifiedby" in table.by_name:
            values["modifiedby"] = self._user.id
            values["modifiedonbehalfby"] = self._user.acting
        compute(self._store, table, values, before=before)
        check_keys(self._store, table, {**before, **values}, row_id)
        self._store.update(table, row_id, values)
        for name in values:
            column = table.by_name.get(name)
            if column is not None and column.kind == "image":
                # The image that was uploaded before is not the row's any more.
                self._store.execute(
                    "DELETE FROM _files WHERE tbl = ? AND row = ? AND col = ?",
                    (table.logical, row_id, name),
                )
