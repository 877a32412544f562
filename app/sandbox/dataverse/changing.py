"""Answers to POST, PATCH, PUT and DELETE on rows, properties and references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.failures import (
    already_exists,
    bad_payload,
    bad_request,
    no_row,
    no_row_with_key,
    no_segment,
    not_allowed,
    version_mismatch,
)
from app.sandbox.dataverse.messages import Answer, Request, json_answer, no_content
from app.sandbox.dataverse.options import Asked, read_options
from app.sandbox.dataverse.payloads import read_json
from app.sandbox.dataverse.reading import applied, represented
from app.sandbox.dataverse.resources import Property, Reference, Resource, Row, Rows

if TYPE_CHECKING:
    from app.sandbox.dataverse.query import Reader
    from app.sandbox.dataverse.schema import Nav, Table
    from app.sandbox.dataverse.store import Store
    from app.sandbox.dataverse.targets import Query
    from app.sandbox.dataverse.write import Writer


class Changes:
    """One change of one request; the caller wraps it in a transaction."""

    def __init__(
        self, store: Store, reader: Reader, writer: Writer, request: Request, query: Query
    ) -> None:
        self._store = store
        self._reader = reader
        self._writer = writer
        self._request = request
        self._query = query

    def answer(self, found: Resource) -> Answer:
        match self._request.method, found:
            case "POST", Rows():
                return self._create(found)
            case "PATCH", Row():
                return self._upsert(found)
            case "DELETE", Row():
                return self._delete(found)
            case "PUT", Property():
                return self._set_property(found)
            case "DELETE", Property():
                return self._clear_property(found)
            case (("POST" | "PUT" | "DELETE"), Reference()):
                return self._reference(found)
        raise not_allowed(self._request.method)

    # ------------------------------------------------------------ rows

    def _create(self, found: Rows) -> Answer:
        body = read_json(self._request, found.table.set_name)
        row_id = self._writer.create(found.table, body)
        if found.holder is not None:
            nav, source, source_id = found.holder
            self._writer.associate(source, source_id, nav, (found.table, row_id))
        return self._written(found.table, row_id, created=True)

    def _upsert(self, found: Row) -> Answer:
        """PATCH: If-Match says update only, If-None-Match: * create only, neither says either."""
        request, table = self._request, found.table
        body = read_json(request, table.set_name)
        match_, none_match = request.condition("if-match"), request.condition("if-none-match")
        version = None if found.id is None else self._store.version_of(table, found.id)
        if version is None:
            if match_ is not None:
                raise _missing(found)
            row_id = self._writer.create(table, body, row_id=found.id, keys=found.keys)
            return self._written(table, row_id, created=True)
        assert found.id is not None
        if none_match == "*":
            raise already_exists()
        _check_version(match_, version)
        self._writer.update(table, found.id, body)
        return self._written(table, found.id, created=False)

    def _delete(self, found: Row) -> Answer:
        version = None if found.id is None else self._store.version_of(found.table, found.id)
        if version is None or found.id is None:
            raise _missing(found)
        _check_version(self._request.condition("if-match"), version)
        self._writer.delete(found.table, found.id)
        return no_content()

    def _written(self, table: Table, row_id: str, *, created: bool) -> Answer:
        request = self._request
        if request.preferences.representation:
            asked = read_options(self._query)
            if not created:
                # "$expand will be ignored" on PATCH (dataverse-reference 3.4).
                asked = Asked(select=asked.select)
            content = represented(self._reader, request, table, row_id, asked)
            return json_answer(content, status=201 if created else 200, headers=applied(request))
        where = f"{request.base}/{table.set_name}({row_id})"
        headers: tuple[tuple[str, str], ...] = (("OData-EntityId", where),)
        if request.in_batch:
            headers = (("Location", where), *headers)
        return no_content(*headers)

    # ------------------------------------------------------------ properties

    def _set_property(self, found: Property) -> Answer:
        body = read_json(self._request, found.row.table.set_name)
        if "value" not in body:
            raise bad_payload(found.row.table.set_name, "The property 'value' was expected.")
        self._change(found, body["value"])
        return no_content()

    def _clear_property(self, found: Property) -> Answer:
        self._change(found, None)
        return no_content()

    def _change(self, found: Property, value: object) -> None:
        if found.raw:
            raise not_allowed(self._request.method)
        table, row_id = found.row.table, found.row.existing()
        version = self._store.version_of(table, row_id)
        if version is None:
            raise no_row(table.logical, row_id)
        _check_version(self._request.condition("if-match"), version)
        self._writer.set_property(table, row_id, found.column.property_name, value)

    # ------------------------------------------------------------ references

    def _reference(self, found: Reference) -> Answer:
        table, nav = found.holder.table, found.nav
        row_id = found.holder.existing()
        if self._store.version_of(table, row_id) is None:
            raise no_row(table.logical, row_id)
        method = self._request.method
        if method == "DELETE":
            self._disassociate(table, row_id, nav, found)
        elif nav.is_collection == (method == "POST") and found.far is None:
            body = read_json(self._request, table.set_name)
            far = self._writer.reference(body.get("@odata.id"), table.set_name)
            if nav.is_collection:
                self._writer.associate(table, row_id, nav, far)
            else:
                self._writer.set_lookup(table, row_id, nav, far)
        else:
            raise not_allowed(method)
        return no_content()

    def _disassociate(self, table: Table, row_id: str, nav: Nav, found: Reference) -> None:
        if not nav.is_collection:
            self._writer.set_lookup(table, row_id, nav, None)
            return
        if found.far is not None:
            far = (found.far.table, found.far.existing())
        else:
            target = self._query.get("$id")
            if target is None:
                raise bad_request("The $id query option names the reference to delete.")
            far = self._writer.reference(target, table.set_name)
        self._writer.disassociate(table, row_id, nav, far)


def _missing(found: Row) -> Exception:
    if found.id is not None:
        return no_row(found.table.logical, found.id)
    return no_row_with_key(found.table.logical) if found.keys else no_segment("")


def _check_version(condition: str | None, version: int) -> None:
    if condition not in {None, "*", f'W/"{version}"'}:
        raise version_mismatch()
