"""What a request that is no GET does, by where its path leads and what its body says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata import calls
from app.odata.access import Access, Operation
from app.odata.body import Record, Writer, is_scalar
from app.odata.bulk import BULK, read_targets
from app.odata.definitions import SCHEMA_ACTIONS
from app.odata.demands import Call, SchemaWrite, Unfilterable, UnknownCall
from app.odata.json_text import Json, read_json_body
from app.odata.media import is_json
from app.odata.methods import not_taken
from app.odata.options import only
from app.odata.place import Kind
from app.odata.reading import BodyMode, Parameters, Precondition, Reading, Rows, Stream, Value
from app.odata.reference_writes import read_reference_write
from app.odata.row_queries import resolve_rows
from app.odata.rows import address, key_columns

if TYPE_CHECKING:
    from app.odata.read import Head
    from app.odata.reading import Body
    from app.odata.resolve import Scope

_NONE: frozenset[str] = frozenset()
_UPSERT = (Operation.UPDATE, Operation.CREATE)
_OPERATIONS = {Precondition.EXISTS: (Operation.UPDATE,), Precondition.ABSENT: (Operation.CREATE,)}


class BodyReader:
    """One POST, PATCH, PUT or DELETE, its path walked."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._place = head.place
        self._resolver = head.resolver
        self._found = head.resolver.found
        self._query = head.query
        self._writer = Writer(head.resolver, head.context)
        self._returns: Rows | None = None
        self._if_updated: tuple[Access, ...] = ()
        self._if_created: tuple[Access, ...] = ()

    def reading(self, body: bytes | None) -> Reading:
        """Raises `Unreadable`."""
        head, place = self._head, self._place
        written = self._written(body)
        if self._resolver.aliases and place.kind is not Kind.UNKNOWN:
            raise Unreadable("bad-query", "an alias is given that nothing uses")
        return Reading(
            method=head.method,
            path=head.path,
            query=self._query,
            headers=head.headers,
            body=written,
            returns=self._returns,
            accesses=self._found.accesses(),
            demands=self._found.demands(),
            rows=self._found.rows(),
            precondition=head.precondition,
            if_updated=self._if_updated,
            if_created=self._if_created,
            sealed_by=head.sealed_by,
            seal=head.seal,
            writes=True,
            file=isinstance(written, Stream),
            kind=place.kind.value,
        )

    def _written(self, body: bytes | None) -> Body:
        kind, method = self._place.kind, self._head.method
        if kind in {Kind.SERVICE, Kind.METADATA, Kind.COUNT}:
            raise not_taken(f"a {kind} is read with GET", allow=("GET",))
        if kind is Kind.BATCH:
            raise not_taken("$batch is a POST", allow=("POST",))
        if kind is Kind.DEFINITIONS:
            self._found.demand(SchemaWrite())
            return self._parameters(body)
        if kind is Kind.UNKNOWN:
            resolve_rows(self._resolver, None, self._query, collection=True)
            streams = self._head.body_mode is BodyMode.STREAM
            return Stream() if streams else self._parameters(body)
        if kind is Kind.REFERENCE:
            reference, self._query = read_reference_write(self._head, body)
            return reference
        if kind is Kind.COLUMN:
            return self._column(body)
        if kind is Kind.CALL:
            return self._call(body)
        if kind is Kind.ROWS and method == "POST":
            return self._create(body)
        if kind is Kind.ROW and method == "PATCH":
            return self._patch(body)
        if kind is Kind.ROW and method == "DELETE":
            self._delete()
            return None
        raise not_taken(
            f"{method} is not read on a {kind}",
            allow=("GET", "POST") if kind is Kind.ROWS else ("GET", "PATCH", "DELETE"),
        )

    def _json(self, body: bytes | None) -> Json:
        return read_json_body(body, self._head.headers.content_type)

    def _parameters(self, body: bytes | None) -> Parameters:
        """A body whose reach is not read, perhaps none; its references lead to Dataverse."""
        if not body:
            return Parameters(None)
        return Parameters(calls.redirected_body(self._json(body), self._head.context.bases))

    # ---------------------------------------------------------------- rows

    def _create(self, body: bytes | None) -> Record:
        scope = self._one_table()
        only(self._query, frozenset({"select", "expand"}), "is not read on a create")
        record, columns = self._writer.record(self._json(body), scope, (Operation.CREATE,))
        self._found.use(scope.sets, Operation.CREATE, *columns)
        self._representation(scope)
        return record

    def _patch(self, body: bytes | None) -> Record:
        precondition, key = self._head.precondition, self._place.key
        scope = self._one_table()
        only(self._query, frozenset({"select"}), "is not read on an update")
        operations = _OPERATIONS.get(precondition, _UPSERT)
        record, columns = self._writer.record(self._json(body), scope, operations, key=key)
        # Whoever creates by an alternate key writes its columns.
        named = () if key is None else key_columns(self._resolver, scope, key)
        table = scope.sets[0]
        if precondition is Precondition.OPEN:
            self._if_updated = (Access(table, Operation.UPDATE, columns),)
            self._if_created = (Access(table, Operation.CREATE, columns | frozenset(named)),)
        elif precondition is Precondition.EXISTS:
            self._found.use(scope.sets, Operation.UPDATE, *columns)
        else:
            self._found.use(scope.sets, Operation.CREATE, *columns, *named)
            self._found.demand(Unfilterable(table, "upsert"))
        self._changed(scope)
        self._representation(scope)
        return record

    def _delete(self) -> None:
        scope = self._one_table()
        only(self._query, _NONE, "is not read on a delete")
        self._found.use(scope.sets, Operation.DELETE)
        self._changed(scope)

    def _one_table(self) -> Scope:
        scope = self._place.scope
        assert scope is not None
        if len(scope.sets) != 1 or self._place.steps:
            raise Unreadable(
                "bad-path", "rows are written by their own address, not along a navigation path"
            )
        return scope

    def _changed(self, scope: Scope) -> None:
        """The row that is written, so that a row filter can be asked for it."""
        if self._place.key is not None:
            address(self._resolver, scope, self._place.key, writes=True)

    def _representation(self, scope: Scope) -> None:
        wanted = self._head.headers.returns_representation
        if wanted or self._query.select is not None or self._query.expand:
            resolve_rows(self._resolver, scope, self._query, collection=False)
            self._returns = Rows(scope.table.name, scope.sets, collection=False)

    # ------------------------------------------------------------- columns

    def _column(self, body: bytes | None) -> Body:
        """`PUT` and `DELETE` of one column; files and images take `PATCH`, too, as bytes."""
        place, method = self._place, self._head.method
        scope = self._one_table()
        column = place.column
        assert column is not None
        if method == "POST" or (method == "PATCH" and not column.may_be_file):
            allow = (
                ("GET", "PUT", "PATCH", "DELETE")
                if column.may_be_file
                else ("GET", "PUT", "DELETE")
            )
            raise not_taken("a column is written with PUT", allow=allow)
        if column.is_lookup:
            raise Unreadable(
                "bad-path", f"{column.name} cannot be written: use its navigation property"
            )
        if column.column in scope.table.key_columns:
            raise Unreadable("bad-path", "a row's id cannot be written")
        self._found.use(scope.sets, Operation.UPDATE, column.column)
        if self._head.headers.returns_representation:
            self._found.read(scope.sets, column.column)
        self._changed(scope)
        if method == "DELETE":
            only(self._query, _NONE, "is not read on a delete")
            return None
        only(self._query, frozenset({"plain"}), "is not read on a column")
        for name, value in self._query.plain:
            named = name in {"x-ms-file-name", "sessiontoken"} or (name, value) == ("size", "full")
            if not named or not column.may_be_file:
                raise Unreadable("unknown-option", f"the option {name} is not read here")
        if not column.may_be_file or (method == "PUT" and is_json(self._head.headers.content_type)):
            return self._value(self._json(body))
        return Stream()

    def _value(self, value: Json) -> Value:
        if (
            not isinstance(value, dict)
            or "value" not in value
            or not value.keys() <= {"value", "@odata.context"}
            or not is_scalar(value["value"])
        ):
            raise Unreadable("bad-body", 'a column is written as {"value": …}')
        return Value(value["value"])

    # --------------------------------------------------------------- calls

    def _call(self, body: bytes | None) -> Body:
        place, head = self._place, self._head
        name, scope = place.routine_name, place.scope
        if head.method != "POST":
            raise not_taken(f"{name} is an action: POST it", allow=("POST",))
        only(self._query, _NONE, "is not read on an action")
        if head.path[-1].arguments:
            raise Unreadable("bad-path", "an action's parameters stand in its body")
        if scope is None and name in SCHEMA_ACTIONS:
            self._found.demand(SchemaWrite())
            return self._parameters(body)
        if scope is not None and name in BULK and not place.on_row:
            return read_targets(self._writer, name, self._json(body), self._one_table())
        if place.routine is not None and not place.routine.is_action:
            raise not_taken(f"{name} is a function: GET it", allow=("GET",))
        for table in (None,) if scope is None else scope.sets:
            self._found.demand(
                UnknownCall(name, table, is_action=True)
                if place.routine is None
                else Call(name, is_action=True, table=table)
            )
        parameters = self._parameters(body)
        if parameters.value is not None and not isinstance(parameters.value, dict):
            raise Unreadable("bad-body", "an action's parameters are an object")
        return parameters
