"""Where a path leads: rows, one row, a property, a reference, a count, an operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.expressions import Literal, Member, plain
from app.sandbox.dataverse.failures import (
    bad_request,
    no_row,
    no_row_with_key,
    no_segment,
)
from app.sandbox.dataverse.grammar import parse_arguments
from app.sandbox.dataverse.relations import restriction
from app.sandbox.dataverse.schema import NAMESPACE
from app.sandbox.dataverse.terms import instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Column, Nav, Table
    from app.sandbox.dataverse.store import Store
    from app.sandbox.dataverse.targets import Segment


@dataclass(frozen=True, slots=True)
class Rows:
    """A set, or what a collection-valued property of one row holds."""

    table: Table
    holder: tuple[Nav, Table, str] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """`id` None: no row has these alternate-key values (`keys`), or a lookup is empty."""

    table: Table
    id: str | None
    keys: Mapping[str, Any] = field(default_factory=dict)
    via: tuple[Nav, Row] | None = None

    def existing(self) -> str:
        if self.id is None:
            raise no_row_with_key(self.table.logical)
        return self.id


@dataclass(frozen=True, slots=True)
class Property:
    row: Row
    column: Column
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """`…/nav/$ref`, or `…/nav(far)/$ref`."""

    holder: Row
    nav: Nav
    far: Row | None = None


@dataclass(frozen=True, slots=True)
class Count:
    rows: Rows


@dataclass(frozen=True, slots=True)
class Operation:
    """A function or action, bound to what stands before it in the path."""

    name: str
    bound: Rows | Row | None
    arguments: Mapping[str, Any]
    brackets: bool


Resource = Rows | Row | Property | Reference | Count | Operation


class Resolver:
    """Follows a path through schema and rows, as Dataverse does, row by row."""

    def __init__(
        self, store: Store, user: User, operations: frozenset[str], aliases: Mapping[str, str]
    ) -> None:
        self._store = store
        self._user = user
        self._schema = store.schema
        self._operations = operations
        self._aliases = aliases

    def resolve(self, segments: Sequence[Segment]) -> Resource:
        first, rest = segments[0], segments[1:]
        if first.name in self._operations and not rest:
            return self._operation(first, None)
        table = self._schema.sets.get(first.name)
        if table is None:
            raise no_segment(first.name)
        here: Resource = Rows(table)
        if first.arguments is not None:
            here = self.row(table, first.arguments)
        for segment, following in zip_longest(rest, rest[1:]):
            # What `$ref` does on the row before it is no reading of that row.
            reads = following is None or following.name != "$ref"
            here = self._step(here, segment, reads=reads)
        return here

    def row(self, table: Table, arguments: str) -> Row:
        """`accounts(…)`: by primary or alternate key."""
        pairs = parse_arguments(arguments, self._aliases)
        if len(pairs) == 1 and pairs[0][0] in {None, table.pk}:
            node = pairs[0][1]
            if not isinstance(node, Literal) or node.kind not in {"guid", "string"}:
                raise bad_request(
                    f"The key value '{arguments}' is not a valid 'Edm.Guid' for "
                    f"'{table.type_name}'."
                )
            return Row(table, str(node.value).lower())
        values: dict[str, Any] = {}
        for name, node in pairs:
            column = table.by_property.get(name or "")
            if column is None or isinstance(node, Member) or column.name in values:
                raise _bad_key(table)
            value = plain(node)
            if column.kind == "datetime":
                value = instant(str(value))
            if column.kind == "lookup":
                value = str(value).lower()
            values[column.name] = value
        if not any(set(key.columns) == set(values) for key in table.keys):
            raise _bad_key(table)
        self._user.touch("Read", table, *values)
        return Row(table, self.find(table, values), values)

    def find(self, table: Table, values: Mapping[str, Any]) -> str | None:
        condition = " AND ".join(f"{name} = :{name}" for name in values)
        found = self._store.one(
            f"SELECT {table.pk} FROM {table.logical} WHERE {condition}",  # noqa: S608
            values,
        )
        return None if found is None else str(found[0])

    # ------------------------------------------------------------ steps

    def _step(self, here: Resource, segment: Segment, *, reads: bool) -> Resource:
        name = segment.name
        match here:
            case Rows():
                if name == "$count" and segment.arguments is None:
                    return Count(here)
                if name == "$ref" and here.holder is not None:
                    nav, source, row_id = here.holder
                    return Reference(Row(source, row_id), nav)
                if name.startswith(f"{NAMESPACE}."):
                    return self._qualified(here, segment)
                if name in self._operations:
                    raise bad_request("Request message has unresolved parameters")
            case Row():
                if name == "$ref" and here.via is not None:
                    nav, holder = here.via
                    return Reference(holder, nav, here if nav.is_collection else None)
                if name.startswith(f"{NAMESPACE}."):
                    return self._qualified(here, segment)
                if name in here.table.navs:
                    return self._navigate(here, here.table.navs[name], segment, reads=reads)
                if name in here.table.by_property and segment.arguments is None:
                    return Property(here, here.table.by_property[name])
                if name in self._operations:
                    raise bad_request("Request message has unresolved parameters")
            case Property(row, column, False) if name == "$value":
                return Property(row, column, raw=True)
        raise no_segment(name)

    def _qualified(self, here: Rows | Row, segment: Segment) -> Resource:
        short = segment.name.removeprefix(f"{NAMESPACE}.")
        if short in self._operations:
            return self._operation(segment, here)
        cast = self._schema.tables.get(short)
        if cast is None or not self._schema.is_a(cast, here.table.logical):
            raise no_segment(segment.name)
        if isinstance(here, Rows):
            return Rows(cast, here.holder)
        if here.id is None:
            return Row(cast, None, via=here.via)
        if self._store.version_of(cast, here.id) is None:
            raise no_row(cast.logical, here.id)
        return Row(cast, here.id, via=here.via)

    def _navigate(self, here: Row, nav: Nav, segment: Segment, *, reads: bool) -> Resource:
        row_id = here.existing()
        target = self._schema[nav.target]
        stored = self._store.row(here.table, row_id)
        if stored is None:
            raise no_row(here.table.logical, row_id)
        if reads:
            self._user.need("Read", here.table)
            if nav.lookup:
                holds = target if nav.is_collection else here.table
                self._user.touch("Read", holds, nav.lookup)
        if nav.is_collection:
            if segment.arguments is None:
                return Rows(target, (nav, here.table, row_id))
            far = self.row(target, segment.arguments)
            condition = restriction(self._schema, nav, here.table, "t")
            if far.id is None or (
                self._store.one(
                    f"SELECT 1 FROM {target.logical} t "  # noqa: S608
                    f"WHERE t.{target.pk} = :far AND {condition}",
                    {"far": far.id, "key": row_id},
                )
                is None
            ):
                raise no_row(target.logical, far.id or "")
            return Row(target, far.id, via=(nav, here))
        if segment.arguments is not None:
            raise no_segment(segment.name)
        far_id = stored[nav.lookup]
        kind = stored.get(f"{nav.lookup}__type")
        if kind is not None and nav.target not in {kind, "principal"}:
            far_id = None
        return Row(target, far_id, via=(nav, here))

    def _operation(self, segment: Segment, bound: Rows | Row | None) -> Operation:
        arguments: dict[str, Any] = {}
        for name, node in parse_arguments(segment.arguments or "", self._aliases):
            if name is None or name in arguments:
                raise bad_request(f"The parameters of '{segment.name}' must be named, each once.")
            arguments[name] = plain(node)
        short = segment.name.removeprefix(f"{NAMESPACE}.")
        return Operation(short, bound, arguments, segment.arguments is not None)


def _bad_key(table: Table) -> Exception:
    return bad_request(
        f"The key in the request URI is not valid for resource '{table.type_name}'. Ensure that "
        "the names and number of key properties match the declared or alternate key properties "
        f"for the resource '{table.type_name}'."
    )
