"""Where a path leads: which rows, row, column, reference or call its segments come to."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from app.errors import Unreadable
from app.odata import definitions
from app.odata.access import Operation
from app.odata.bulk import BULK
from app.odata.demands import Unknown, UnknownCall
from app.odata.resolve import Scope
from app.odata.rows import address, key_columns
from app.schema.model import NAMESPACE

if TYPE_CHECKING:
    from app.odata.resolve import Resolver
    from app.odata.rows import Context
    from app.odata.segments import Key, Segment
    from app.schema.model import Navigation, Property, Routine


READ = Operation.READ
_OPERATIONS = {
    "GET": READ,
    "POST": Operation.CREATE,
    "PATCH": Operation.UPDATE,
    "PUT": Operation.UPDATE,
    "DELETE": Operation.DELETE,
}


class Kind(StrEnum):
    """What stands at the end of a path."""

    SERVICE = "service document"
    METADATA = "$metadata"
    DEFINITIONS = "definitions"
    BATCH = "$batch"
    ROWS = "rows"
    ROW = "row"
    COLUMN = "column"
    COUNT = "count"
    REFERENCE = "reference"
    CALL = "call"
    UNKNOWN = "unknown"


class Place(msgspec.Struct):
    """Filled by `walk`. `scope` is whose rows the path ends at, for a reference the far side.

    `content_id` is set where the path starts from a row that an earlier part of the batch
    names. `key` is the key of the last row that was addressed, if one was.
    """

    kind: Kind
    scope: Scope | None = None
    key: Key | None = None
    content_id: str | None = None
    created: bool = False
    column: Property | None = None
    raw_value: bool = False
    navigation: Navigation | None = None
    source: Scope | None = None
    source_key: Key | None = None
    routine: Routine | None = None
    routine_name: str = ""
    on_row: bool = False
    """Whether the `$ref` or call at the end stands behind one row, not behind a collection."""
    steps: int = 0
    """Navigation properties on the way."""

    @property
    def may_be_file(self) -> bool:
        return self.column is not None and self.column.may_be_file

    @property
    def bare(self) -> bool:
        """Whether what is read comes as it is: a file, an image, or a column's bare value."""
        return self.raw_value or self.may_be_file


class Walker:
    """Walks one path. With GET each step is a read; else the last one acts, and no other."""

    def __init__(self, resolver: Resolver, context: Context, method: str) -> None:
        self._resolver = resolver
        self._context = context
        self._reading = method == "GET"
        self._operation = _OPERATIONS[method]

    def walk(self, segments: tuple[Segment, ...]) -> Place:
        """Raises `Unreadable` for what is no path whatever the schema says."""
        if not segments:
            return Place(Kind.SERVICE)
        first, rest = segments[0], segments[1:]
        name = first.name
        if name.startswith("$"):
            return self._system(first, rest)
        if name in definitions.SETS:
            return Place(Kind.DEFINITIONS)
        schema = self._resolver.schema
        table = schema.sets.get(name)
        if table is not None:
            place = Place(Kind.ROWS, self._resolver.scope(table))
            if first.arguments is not None:
                self._pick(place, first)
            return self._along(place, rest)
        routine = schema.imports.get(name)
        if routine is not None or name in definitions.SCHEMA_ACTIONS:
            if rest:
                raise Unreadable("bad-path", "nothing is read behind a function or action")
            return Place(Kind.CALL, routine=routine, routine_name=name)
        # What it would be is anybody's guess: the refusal says what it would of such a name.
        if first.arguments == ():
            self._resolver.found.demand(UnknownCall(name, is_action=self._operation is not READ))
        else:
            self._resolver.found.demand(Unknown(name, None, self._operation))
        return Place(Kind.UNKNOWN)

    def _system(self, first: Segment, rest: tuple[Segment, ...]) -> Place:
        if first.name == "$metadata" and not rest and first.arguments is None:
            return Place(Kind.METADATA)
        if first.name == "$batch" and not rest and first.arguments is None:
            return Place(Kind.BATCH)
        if first.name[1:].isdigit() and first.arguments is None:
            named = self._context.content.get(first.name[1:])
            if named is None:
                raise Unreadable(
                    "bad-batch", f"{first.name} names no earlier part of the same change set"
                )
            table = self._resolver.schema.sets[named.entity_set]
            place = Place(
                Kind.ROW,
                self._resolver.scope(table),
                content_id=first.name[1:],
                created=named.created,
            )
            return self._along(place, rest)
        raise Unreadable("bad-path", "a path begins with a table, a function or an action")

    def _pick(self, place: Place, segment: Segment) -> None:
        """A key behind a collection."""
        assert place.scope is not None
        place.key = segment.key()
        place.content_id = None
        place.kind = Kind.ROW
        key_columns(self._resolver, place.scope, place.key)

    def _along(self, place: Place, rest: tuple[Segment, ...]) -> Place:
        for index, segment in enumerate(rest):
            last = index == len(rest) - 1
            if place.kind in {Kind.COUNT, Kind.REFERENCE, Kind.CALL}:
                raise Unreadable("bad-path", f"nothing is read behind a {place.kind}")
            if place.kind is Kind.COLUMN:
                if segment.name != "$value" or segment.arguments is not None or place.raw_value:
                    raise Unreadable("bad-path", "only $value can stand behind a column")
                place.raw_value = True
            elif segment.name.startswith("$"):
                self._ending(place, segment)
            elif "." in segment.name:
                self._qualified(place, segment)
            elif place.kind is Kind.ROW:
                self._member(place, segment, last=last, rest=rest[index + 1 :])
            else:
                raise Unreadable("bad-path", "a column or navigation property needs one row: a key")
            if place.kind is Kind.UNKNOWN:
                return place
        return place

    def _ending(self, place: Place, segment: Segment) -> None:
        if segment.arguments is not None:
            raise Unreadable("bad-path", f"{segment.name} takes no key")
        if segment.name == "$count" and place.kind is Kind.ROWS:
            place.kind = Kind.COUNT
        elif segment.name == "$ref" and (self._reading or place.navigation is not None):
            place.on_row = place.kind is Kind.ROW
            place.kind = Kind.REFERENCE
        else:
            raise Unreadable("bad-path", f"{segment.name} cannot stand here")

    def _qualified(self, place: Place, segment: Segment) -> None:
        assert place.scope is not None
        namespace, _, short = segment.name.rpartition(".")
        schema = self._resolver.schema
        if namespace == NAMESPACE and schema.derives(short, place.scope.table.name):
            target = self._resolver.cast(place.scope, segment.name)
            if target is None:
                place.kind = Kind.UNKNOWN
                return
            if len(place.scope.sets) == 1 and place.key is not None:
                address(self._resolver, place.scope, place.key)
            place.scope = target
            if segment.arguments is not None:
                if place.kind is Kind.ROW:
                    raise Unreadable("bad-path", "a row has a key already")
                self._pick(place, segment)
            return
        if namespace != NAMESPACE:
            self._resolver.unknown(place.scope, segment.name)
            place.kind = Kind.UNKNOWN
            return
        place.routine_name = short
        place.routine = next(
            (
                r
                for r in schema.bound.get(short, ())
                if r.bound_to_collection == (place.kind is Kind.ROWS)
                and r.bound_to is not None
                and schema.derives(place.scope.table.name, r.bound_to)
            ),
            None,
        )
        if place.routine is None and short not in BULK:
            # Another table's type is told in the words for a name that nobody knows.
            for table in place.scope.sets:
                self._resolver.found.demand(UnknownCall(short, table, is_action=not self._reading))
            place.kind = Kind.UNKNOWN
            return
        if place.kind is Kind.ROW and place.key is not None:
            address(self._resolver, place.scope, place.key)
        place.on_row = place.kind is Kind.ROW
        place.kind = Kind.CALL

    def _member(
        self, place: Place, segment: Segment, *, last: bool, rest: tuple[Segment, ...]
    ) -> None:
        assert place.scope is not None
        table = place.scope.table
        column = table.properties.get(segment.name)
        if column is not None:
            if segment.arguments is not None:
                raise Unreadable("bad-path", "a column takes no key")
            place.kind = Kind.COLUMN
            place.column = column
            return
        navigation = table.navigations.get(segment.name)
        if navigation is None:
            operation = READ if self._reading else Operation.UPDATE
            for name in place.scope.sets:
                self._resolver.found.demand(Unknown(segment.name, name, operation))
            place.kind = Kind.UNKNOWN
            return
        if segment.arguments is not None and not navigation.collection:
            raise Unreadable("bad-path", f"{navigation.name} is one row and takes no key")
        only_reference = bool(rest) and rest[0].name == "$ref"
        if not self._reading and (last or not only_reference or place.steps):
            raise Unreadable(
                "bad-path", "rows are written by their own address, not along a navigation path"
            )
        self._step(place, navigation, segment, only_reference=only_reference)

    def _step(
        self, place: Place, navigation: Navigation, segment: Segment, *, only_reference: bool
    ) -> None:
        source = place.scope
        assert source is not None
        place.source, place.source_key, place.navigation = source, place.key, navigation
        place.steps += 1
        if place.key is not None and self._reading:
            address(self._resolver, source, place.key)
        target = self._target(place, navigation, only_reference=only_reference)
        if target is None:
            place.kind = Kind.UNKNOWN
            return
        place.scope, place.key, place.content_id = target, None, None
        place.kind = Kind.ROWS if navigation.collection else Kind.ROW
        if segment.arguments is not None:
            self._pick(place, segment)

    def _target(
        self, place: Place, navigation: Navigation, *, only_reference: bool
    ) -> Scope | None:
        source = place.scope
        assert source is not None
        resolver = self._resolver
        if self._reading and not (only_reference and not navigation.collection):
            target = resolver.follow(source, navigation)
            if target is not None and not navigation.collection:
                resolver.found.unfilterable(target.sets, "single-valued navigation")
            return target
        # A lookup's `$ref` tells its value and no more; a write's accesses are the writer's.
        sets = resolver.schema.sets_of(navigation.target)
        if sets is None or navigation.unclear:
            resolver.unknown(source, navigation.name)
            return None
        if self._reading and navigation.column is not None:
            resolver.found.read(source.sets, navigation.column)
        return Scope(resolver.schema.tables[navigation.target], sets, source.depth + 1)
