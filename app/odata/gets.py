"""What a GET reads, by where its path leads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata import calls
from app.odata.definitions import DefinitionReader
from app.odata.demands import Call, Definitions, Opaque, Unknown
from app.odata.headers import is_guid
from app.odata.place import Kind
from app.odata.query import EMPTY, Query
from app.odata.reading import Reading, Rows
from app.odata.rows import address
from app.odata.segments import Segment

if TYPE_CHECKING:
    from app.odata.read import Head
    from app.odata.resolve import Scope

_ROWS = frozenset(
    {"select", "expand", "filter", "orderby", "count", "top", "skiptoken", "deltatoken", "aliases"}
)
_APPLIED = frozenset({"apply", "filter", "orderby", "top", "count", "skiptoken", "aliases"})
_FETCHED = frozenset({"fetch", "count", "skiptoken"})
_OPAQUE = frozenset({"opaque", "count", "skiptoken"})
_ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.ROW: frozenset({"select", "expand", "aliases"}),
    Kind.COLUMN: frozenset({"plain"}),
    Kind.COUNT: frozenset({"filter", "deltatoken", "aliases"}),
    Kind.REFERENCE: frozenset({"filter", "orderby", "top", "count", "skiptoken", "aliases"}),
    Kind.METADATA: frozenset({"plain"}),
    Kind.SERVICE: frozenset(),
    Kind.DEFINITIONS: frozenset({"select", "filter", "expand", "orderby", "top", "count"}),
    Kind.CALL: frozenset({"aliases"}),
}


def only(query: Query, allowed: frozenset[str], where: str) -> None:
    """Raises `Unreadable` where an option stands that has no meaning there."""
    if query is EMPTY:
        return
    for name in Query.__slots__:
        if name not in allowed and getattr(query, name) != getattr(EMPTY, name):
            raise Unreadable("bad-query", f"the option {_OPTION.get(name, name)} {where}")


_OPTION = {
    name: f"${name}"
    for name in ("select", "expand", "filter", "orderby", "apply", "count", "top", "skiptoken",
                 "deltatoken")
} | {"fetch": "fetchXml", "opaque": "savedQuery, userQuery or sql", "reference": "$id",
     "aliases": "@…", "plain": "of a file or of $metadata"}  # fmt: skip


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
            self._resolver.rows(None, self._query, collection=True)
        else:
            if place.kind is Kind.BATCH:
                raise Unreadable("method-not-allowed", "$batch is a POST")
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
            file=place.kind in {Kind.COLUMN, Kind.METADATA},
            kind=str(place.kind),
        )

    def _aliases_used(self) -> None:
        unused = self._resolver.aliases.keys() - self._resolver.used
        if unused and self._place.kind is not Kind.UNKNOWN:
            raise Unreadable("bad-query", "an alias is given that nothing uses")

    # --------------------------------------------------------------- rows

    def _rows(self) -> Rows:
        query, scope = self._query, self._place.scope
        assert scope is not None
        preferences = self._head.headers.preferences
        if preferences.track_changes or query.deltatoken is not None:
            self._found.unfilterable(scope.sets, "change tracking")
        if query.fetch is not None:
            only(query, _FETCHED, "cannot stand beside fetchXml")
            self._resolver.fetch(query.fetch, scope)
        elif query.opaque is not None:
            only(query, _OPAQUE, f"cannot stand beside {query.opaque[0]}")
            self._opaque(query.opaque, scope)
        elif query.apply:
            only(query, _APPLIED, "cannot stand beside $apply")
            self._resolver.rows(scope, query, collection=True)
        else:
            only(query, _ROWS, "is not read on rows")
            self._resolver.rows(scope, query, collection=True)
        return Rows(scope.table.name, scope.sets, collection=True)

    def _opaque(self, option: tuple[str, str], scope: Scope) -> None:
        name, value = option
        if name != "sql" and not is_guid(value):
            raise Unreadable("bad-query", f"{name} is a GUID")
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
            for demand in DefinitionReader(self._resolver.schema).read(self._head.path, query):
                self._found.demand(demand)
            return None
        assert scope is not None
        if place.key is not None and place.kind in {Kind.ROW, Kind.COLUMN}:
            address(self._resolver, scope, place.key)
        if place.kind is Kind.ROW:
            self._resolver.rows(scope, query, collection=False)
            return Rows(scope.table.name, scope.sets, collection=False)
        if place.kind is Kind.COLUMN:
            assert place.column is not None
            self._plain({"size": ("full",)})
            self._found.read(scope.sets, place.column.column)
            return None
        return self._counted_or_referenced(scope)

    def _counted_or_referenced(self, scope: Scope) -> Rows | None:
        place, query = self._place, self._query
        if place.kind is Kind.COUNT:
            self._found.read(scope.sets)
            if query.deltatoken is not None:
                self._found.unfilterable(scope.sets, "change tracking")
        elif place.navigation is not None and not place.navigation.collection:
            only(query, frozenset(), "is not read on a single reference")
            return None
        elif place.key is not None:
            raise Unreadable("bad-path", "a reference to one row of a collection is not read")
        self._resolver.conditions(scope, query)
        return Rows(scope.table.name, scope.sets, collection=True, selects=False)

    def _plain(self, allowed: dict[str, tuple[str, ...]]) -> None:
        for name, value in self._query.plain:
            if value not in allowed.get(name, ()):
                raise Unreadable("unknown-option", f"the option {name} is not read here")

    # --------------------------------------------------------------- calls

    def _call(self) -> tuple[Segment, ...]:
        head, place = self._head, self._place
        segment = head.path[-1]
        name = place.routine_name
        bound = place.scope is not None
        if place.routine is not None and place.routine.is_action:
            raise Unreadable("method-not-allowed", f"{name} is an action: POST it")
        if not bound and name == calls.METADATA_CHANGES:
            self._found.demand(Definitions())
        elif not bound and name == calls.ROW_COUNT:
            calls.counted_tables(self._resolver, segment)
        elif place.routine is None:
            self._found.demand(Unknown(name, None if place.scope is None else place.scope.sets[0]))
        else:
            table = None if place.scope is None else place.scope.sets[0]
            self._found.demand(Call(name, is_action=False, table=table))
        arguments = calls.parameters(self._resolver, segment, head.context.bases)
        self._query = replace(
            self._query,
            aliases=tuple(
                (n, calls.rewrite(v, head.context.bases)) for n, v in self._query.aliases
            ),
        )
        return (*head.path[:-1], Segment(segment.name, arguments))
