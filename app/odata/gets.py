"""What a GET reads, by where its path leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from app.errors import Unreadable
from app.odata import calls
from app.odata.definitions import DefinitionReader
from app.odata.demands import Call, Definitions, Opaque, UnknownCall
from app.odata.fetch_names import resolve_fetch
from app.odata.headers import is_guid
from app.odata.methods import not_taken
from app.odata.options import only
from app.odata.place import Kind
from app.odata.reading import Reading, Rows
from app.odata.row_queries import resolve_conditions, resolve_rows
from app.odata.rows import address
from app.odata.segments import Segment

if TYPE_CHECKING:
    from app.odata.read import Head
    from app.odata.resolve import Scope

_ROWS = frozenset(
    {"select", "expand", "filter", "orderby", "count", "top", "skiptoken", "deltatoken", "aliases"}
)
_APPLIED = _ROWS | {"apply"}
_FETCHED = frozenset({"fetch", "count", "skiptoken"})
_OPAQUE = frozenset({"opaque", "count", "skiptoken"})
_ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.ROW: frozenset({"select", "expand", "aliases"}),
    Kind.COLUMN: frozenset({"plain"}),
    Kind.COUNT: frozenset({"filter", "deltatoken", "aliases"}),
    Kind.REFERENCE: frozenset({"filter", "orderby", "top", "count", "skiptoken", "aliases"}),
    Kind.METADATA: frozenset({"plain"}),
    Kind.SERVICE: frozenset(),
    Kind.DEFINITIONS: frozenset(
        {"select", "filter", "expand", "orderby", "top", "count", "aliases"}
    ),
    Kind.CALL: frozenset({"aliases"}),
}


class GetReader:
    """One GET, its path walked."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._place = head.place
        self._resolver = head.resolver
        self._found = head.resolver.found
        self._query = head.query

    def reading(self) -> Reading:
        """Raises `Unreadable`."""
        head, place = self._head, self._place
        path = head.path
        returns: Rows | None = None
        if place.kind is Kind.ROWS:
            returns = self._rows()
        elif place.kind is Kind.UNKNOWN:
            resolve_rows(self._resolver, None, self._query, collection=True)
            path = self._redirected()
        else:
            if place.kind is Kind.BATCH:
                raise not_taken("$batch is a POST", allow=("POST",))
            only(self._query, _ALLOWED[place.kind], f"is not read on a {place.kind}")
            if place.kind is Kind.CALL:
                path = self._call()
            else:
                returns = self._other()
        self._aliases_used()
        return Reading(
            method="GET",
            path=path,
            query=self._query,
            headers=head.headers,
            body=None,
            returns=returns,
            accesses=self._found.accesses(),
            demands=self._found.demands(),
            rows=self._found.rows(),
            sealed_by=head.sealed_by,
            seal=head.seal,
            file=place.bare or place.kind is Kind.METADATA,
            kind=place.kind.value,
        )

    def _aliases_used(self) -> None:
        if not self._resolver.aliases or self._place.kind is Kind.UNKNOWN:
            return
        if self._resolver.aliases.keys() - self._resolver.used:
            raise Unreadable("bad-query", "an alias is given that nothing uses")

    # --------------------------------------------------------------- rows

    def _rows(self) -> Rows:
        query, scope = self._query, self._place.scope
        assert scope is not None
        scope = scope.afresh()
        if query.deltatoken is not None or self._head.headers.preferences.track_changes:
            self._found.unfilterable(scope.sets, "change tracking")
        if query.fetch is not None:
            only(query, _FETCHED, "cannot stand beside fetchXml")
            resolve_fetch(self._resolver, query.fetch, scope)
        elif query.opaque is not None:
            only(query, _OPAQUE, f"cannot stand beside {query.opaque[0]}")
            self._opaque(query.opaque, scope)
        else:
            only(query, _APPLIED if query.apply else _ROWS, "is not read on rows")
            resolve_rows(self._resolver, scope, query, collection=True)
        return Rows(scope.table.name, scope.sets, collection=True)

    def _opaque(self, option: tuple[str, str], scope: Scope) -> None:
        name, value = option
        if name != "sql" and not is_guid(value):
            raise Unreadable("bad-query", f"{name} is a GUID")
        if not value.strip():
            raise Unreadable("bad-query", f"{name} is empty")
        self._found.read(scope.sets)
        self._found.demand(Opaque(name))

    # -------------------------------------------------------------- others

    def _other(self) -> Rows | None:
        place, query, scope = self._place, self._query, self._place.scope
        if place.kind in {Kind.SERVICE, Kind.METADATA}:
            self._plain({"annotations": ("true", "false")})
            self._found.demand(Definitions())
            return None
        if place.kind is Kind.DEFINITIONS:
            for demand in DefinitionReader(self._resolver).read(self._head.path, query):
                self._found.demand(demand)
            return None
        assert scope is not None
        scope = scope.afresh()
        if place.key is not None:
            address(self._resolver, scope, place.key)
        if place.kind is Kind.ROW:
            resolve_rows(self._resolver, scope, query, collection=False)
            return Rows(scope.table.name, scope.sets, collection=False)
        if place.kind is Kind.COLUMN:
            assert place.column is not None
            self._plain({"size": ("full",)} if place.bare else {})
            self._found.read(scope.sets, place.column.column)
            return None
        if place.kind is Kind.COUNT:
            if query.deltatoken is not None:
                self._found.unfilterable(scope.sets, "change tracking")
        elif place.on_row:
            only(query, frozenset(), "is not read on a single reference")
            if place.navigation is None:
                self._found.read(scope.sets)
            elif place.navigation.collection:
                # A reader that overlooks the key would list them all.
                self._found.unfilterable(scope.sets, "references")
            return None
        else:
            # Whether a list of references heeds $filter, nothing says.
            self._found.unfilterable(scope.sets, "references")
        self._found.read(scope.sets)
        resolve_conditions(self._resolver, scope, query)
        return Rows(scope.table.name, scope.sets, collection=True, selects=False)

    def _plain(self, allowed: dict[str, tuple[str, ...]]) -> None:
        for name, value in self._query.plain:
            if value not in allowed.get(name, ()):
                raise Unreadable("unknown-option", f"the option {name} is not read here")

    # --------------------------------------------------------------- calls

    def _call(self) -> tuple[Segment, ...]:
        place = self._place
        segment = self._head.path[-1]
        name = place.routine_name
        sets = (None,) if place.scope is None else place.scope.sets
        if place.routine is not None and place.routine.is_action:
            raise not_taken(f"{name} is an action: POST it", allow=("POST",))
        if place.scope is None and name == calls.METADATA_CHANGES:
            self._found.demand(Definitions())
        elif place.scope is None and name == calls.ROW_COUNT:
            calls.counted_tables(self._resolver, segment)
        else:
            for table in sets:
                self._found.demand(
                    UnknownCall(name, table)
                    if place.routine is None
                    else Call(name, is_action=False, table=table)
                )
        calls.check_parameters(self._resolver, segment)
        return self._redirected()

    def _redirected(self) -> tuple[Segment, ...]:
        """The path, and the query's aliases, with their references led to Dataverse."""
        path, bases = self._head.path, self._head.context.bases
        if self._query.aliases:
            aliases = tuple((n, calls.redirected(v, bases)) for n, v in self._query.aliases)
            self._query = replace(self._query, aliases=aliases)
        if not path or path[-1].arguments is None:
            return path
        arguments = tuple((n, calls.redirected(v, bases)) for n, v in path[-1].arguments)
        return (*path[:-1], Segment(path[-1].name, arguments))
