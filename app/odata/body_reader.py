"""What a request that is no GET does, by where its path leads and what its body says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata import calls
from app.odata.access import Access, Operation
from app.odata.body import Record, Writer, is_scalar, item_key, join
from app.odata.definitions import SCHEMA_ACTIONS
from app.odata.demands import (
    Association,
    Call,
    SchemaWrite,
    Unfilterable,
    Unknown,
)
from app.odata.gets import only
from app.odata.json_text import Json, read_json
from app.odata.links import Reference, read_reference
from app.odata.media import is_json
from app.odata.place import Kind
from app.odata.reading import Parameters, Precondition, Reading, Rows, Stream, Targets, Value
from app.odata.rows import address, key_columns, referenced

if TYPE_CHECKING:
    from app.odata.read import Head
    from app.odata.reading import Body
    from app.odata.resolve import Scope

_NONE: frozenset[str] = frozenset()


class BodyReader:
    """One POST, PATCH, PUT or DELETE, its path walked."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._place = head.place
        self._resolver = head.resolver
        self._found = head.resolver.found
        self._query = head.query
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
            kind=str(place.kind),
        )

    def _written(self, body: bytes | None) -> Body:
        kind, method = self._place.kind, self._head.method
        if kind in {Kind.SERVICE, Kind.METADATA, Kind.COUNT}:
            raise Unreadable("method-not-allowed", f"a {kind} is read with GET")
        if kind is Kind.BATCH:
            raise Unreadable("method-not-allowed", "$batch is a POST")
        if kind is Kind.DEFINITIONS:
            self._found.demand(SchemaWrite())
            return Parameters(self._json(body, required=False))
        if kind is Kind.UNKNOWN:
            self._resolver.rows(None, self._query, collection=True)
            return Parameters(self._json(body, required=False))
        if kind is Kind.REFERENCE:
            return self._reference(body)
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
        raise Unreadable("method-not-allowed", f"{method} is not read on a {kind}")

    def _json(self, body: bytes | None, *, required: bool = True) -> Json:
        if not body:
            if required:
                raise Unreadable("bad-json", "the request needs a JSON body")
            return None
        if not is_json(self._head.headers.content_type):
            raise Unreadable(
                "unsupported-media-type", "a body is application/json in UTF-8: say so"
            )
        return read_json(body)

    def _writer(self) -> Writer:
        return Writer(self._resolver, self._head.context)

    # ---------------------------------------------------------------- rows

    def _create(self, body: bytes | None) -> Record:
        scope = self._one_table()
        only(self._query, frozenset({"select", "expand"}), "is not read on a create")
        record, columns = self._writer().record(self._json(body), scope, (Operation.CREATE,))
        self._found.use(scope.sets, Operation.CREATE, *columns)
        self._representation(scope)
        return record

    def _patch(self, body: bytes | None) -> Record:
        head, place = self._head, self._place
        scope = self._one_table()
        only(self._query, frozenset({"select"}), "is not read on an update")
        operations = {
            Precondition.EXISTS: (Operation.UPDATE,),
            Precondition.ABSENT: (Operation.CREATE,),
        }.get(head.precondition, (Operation.UPDATE, Operation.CREATE))
        record, columns = self._writer().record(self._json(body), scope, operations, key=place.key)
        # Whoever creates by an alternate key writes its columns.
        named = () if place.key is None else key_columns(self._resolver, scope, place.key)
        table = scope.sets[0]
        updated = Access(table, Operation.UPDATE, columns)
        created = Access(table, Operation.CREATE, columns | frozenset(named))
        if head.precondition is Precondition.OPEN:
            self._if_updated, self._if_created = (updated,), (created,)
        elif head.precondition is Precondition.EXISTS:
            self._found.use((table,), Operation.UPDATE, *columns)
        else:
            self._found.use((table,), Operation.CREATE, *columns, *named)
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
            self._resolver.rows(scope, self._query, collection=False)
            self._returns = Rows(scope.table.name, scope.sets, collection=False)

    # ------------------------------------------------------------- columns

    def _column(self, body: bytes | None) -> Body:
        place, method = self._place, self._head.method
        scope = self._one_table()
        column = place.column
        assert column is not None
        if method == "POST":
            raise Unreadable("method-not-allowed", "a column is written with PUT or PATCH")
        if column.is_lookup:
            raise Unreadable(
                "bad-path", f"{column.name} cannot be written: use its navigation property"
            )
        if column.column in scope.table.key_columns:
            raise Unreadable("bad-path", "a row's id cannot be written")
        self._found.use(scope.sets, Operation.UPDATE, column.column)
        self._changed(scope)
        if method == "DELETE":
            only(self._query, _NONE, "is not read on a delete")
            return None
        only(self._query, frozenset({"plain"}), "is not read on a column")
        for name, _ in self._query.plain:
            if name not in {"x-ms-file-name", "sessiontoken"}:
                raise Unreadable("unknown-option", f"the option {name} is not read here")
        if method == "PUT" and is_json(self._head.headers.content_type):
            value = self._json(body)
            if not isinstance(value, dict) or not value.keys() <= {"value", "@odata.context"}:
                raise Unreadable("bad-body", 'a column is written as {"value": …}')
            if "value" not in value or not is_scalar(value["value"]):
                raise Unreadable("bad-body", 'a column is written as {"value": …}')
            return Value(value["value"])
        return Stream()

    # ---------------------------------------------------------- references

    def _reference(self, body: bytes | None) -> Reference | None:
        place, method = self._place, self._head.method
        source, target, navigation = place.source, place.scope, place.navigation
        assert source is not None
        assert target is not None
        assert navigation is not None
        single = not navigation.collection
        if method not in {"DELETE", "PUT" if single else "POST"}:
            raise Unreadable(
                "method-not-allowed", f"{navigation.name}/$ref takes {'PUT' if single else 'POST'}"
            )
        if place.source_key is not None:
            address(self._resolver, source, place.source_key, writes=single)
        if single:
            assert navigation.column is not None
            self._found.use(source.sets, Operation.UPDATE, navigation.column)
            if navigation.column == "ownerid":
                self._found.use(source.sets, Operation.ASSIGN)
        if method == "DELETE":
            self._dissociate(target)
            return None
        only(self._query, _NONE, "is not read on a reference")
        if place.key is not None:
            raise Unreadable("bad-path", "a row is added by its @odata.id, not by a key")
        value = self._json(body)
        if not isinstance(value, dict) or not value.keys() <= {"@odata.id", "@odata.context"}:
            raise Unreadable("bad-body", 'a reference is written as {"@odata.id": …}')
        link = value.get("@odata.id")
        if not isinstance(link, str):
            raise Unreadable("bad-body", 'a reference is written as {"@odata.id": …}')
        reference = read_reference(link, self._head.context.bases)
        found = referenced(self._resolver, self._head.context, reference, target)
        if found is not None:
            sets, made = found
            join(
                self._resolver,
                navigation,
                near=source.sets,
                far=sets,
                far_made=made,
                near_made=place.created,
            )
        return reference

    def _dissociate(self, target: Scope) -> None:
        place, navigation, query = self._place, self._place.navigation, self._query
        source = place.source
        assert navigation is not None
        assert source is not None
        if not navigation.collection:
            only(query, _NONE, "is not read on a single reference")
            return
        only(query, frozenset({"reference"}), "is not read on a reference")
        far = target.sets
        if (query.reference is None) == (place.key is None):
            raise Unreadable("bad-path", "name the row to take out: by its key, or by $id")
        if place.key is not None:
            address(self._resolver, target, place.key)
        elif query.reference is not None:
            reference = read_reference(query.reference, self._head.context.bases)
            found = referenced(self._resolver, self._head.context, reference, target)
            far = target.sets if found is None else found[0]
            if reference.content_id is None:
                link = self._head.context.bases.service + reference.relative()
                self._query = replace(query, reference=link)
        if navigation.column is not None:
            self._found.use(far, Operation.UPDATE, navigation.column)
            if navigation.column == "ownerid":
                self._found.use(far, Operation.ASSIGN)
            return
        self._found.use(source.sets, Operation.APPEND_TO)
        self._found.use(far, Operation.APPEND_TO)
        self._found.demand(Association((source.sets[0], far[0])))

    # --------------------------------------------------------------- calls

    def _call(self, body: bytes | None) -> Body:
        place, head = self._place, self._head
        name, scope = place.routine_name, place.scope
        if head.method != "POST":
            raise Unreadable("method-not-allowed", f"{name} is an action: POST it")
        only(self._query, _NONE, "is not read on an action")
        if head.path[-1].arguments:
            raise Unreadable("bad-path", "an action's parameters stand in its body")
        if name in SCHEMA_ACTIONS and scope is None:
            self._found.demand(SchemaWrite())
            return Parameters(self._json(body, required=False))
        if name in calls.BULK and scope is not None and place.key is None:
            return self._bulk(name, self._json(body), scope)
        table = None if scope is None else scope.sets[0]
        if place.routine is None:
            self._found.demand(Unknown(name, table))
        elif not place.routine.is_action:
            raise Unreadable("method-not-allowed", f"{name} is a function: GET it")
        else:
            self._found.demand(Call(name, is_action=True, table=table))
        value = self._json(body, required=False)
        if value is not None and not isinstance(value, dict):
            raise Unreadable("bad-body", "an action's parameters are an object")
        return Parameters(calls.action_body(value, head.context.bases))

    def _bulk(self, name: str, value: Json, scope: Scope) -> Targets:
        if not isinstance(value, dict) or value.keys() != {"Targets"}:
            raise Unreadable("bad-body", f'{name} takes {{"Targets": […]}} and nothing else')
        items = value["Targets"]
        if not isinstance(items, list) or not items:
            raise Unreadable("bad-body", f"{name} takes a list of Targets")
        operations = {
            "CreateMultiple": (Operation.CREATE,),
            "UpdateMultiple": (Operation.UPDATE,),
            "UpsertMultiple": (Operation.UPDATE, Operation.CREATE),
            "DeleteMultiple": (Operation.DELETE,),
        }[name]
        if name == "UpsertMultiple":
            self._found.unfilterable(scope.sets, "upsert")
        return Targets(tuple(self._target(i, scope, operations) for i in items))

    def _target(self, item: Json, scope: Scope, operations: tuple[Operation, ...]) -> Record:
        if not isinstance(item, dict):
            raise Unreadable("bad-body", "every one of Targets is an object")
        key = None
        named: tuple[str, ...] = ()
        if operations != (Operation.CREATE,):
            key = item_key(item, scope, self._resolver, self._head.context)
            if key is None:
                self._found.unfilterable(scope.sets, "alternate key")
            else:
                named = key_columns(self._resolver, scope, key)
                address(self._resolver, scope, key)
            if "@odata.id" in item and key is not None:
                link = Reference(scope.sets[0], key).relative()
                item = {**item, "@odata.id": link}
        elif "@odata.id" in item:
            raise Unreadable("bad-body", "a row that is created has no @odata.id")
        record, columns = self._writer().record(
            item, scope, operations, typed=True, keep=("@odata.id",)
        )
        for operation in operations:
            extra = named if operation is Operation.CREATE else ()
            wanted = () if operation is Operation.DELETE else (*columns, *extra)
            self._found.use(scope.sets, operation, *wanted)
        if Operation.DELETE in operations and columns:
            raise Unreadable("bad-body", "DeleteMultiple takes ids and no other columns")
        return record
