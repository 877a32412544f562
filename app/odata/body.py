"""JSON bodies that write rows: which columns they set, which rows they join, what they nest.

What was read is kept as a `Record`, from which the body is written again: references lead to
Dataverse only, and the annotations that clients echo are gone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from app.errors import Unreadable
from app.odata.access import Operation
from app.odata.calls import redirected_body, redirected_references
from app.odata.demands import Association, Unknown
from app.odata.headers import is_guid
from app.odata.joining import OWNER, join
from app.odata.json_text import Json, Number
from app.odata.links import read_reference
from app.odata.resolve import Scope
from app.odata.rows import Context, referenced
from app.schema.model import NAMESPACE

if TYPE_CHECKING:
    from app.odata.resolve import Resolver
    from app.odata.segments import Key
    from app.schema.model import Navigation, Table

_ECHOED = frozenset(
    {
        "@odata.etag", "@odata.context", "@odata.id", "@odata.editLink", "@odata.readLink",
        "@odata.metadataEtag", "@odata.count", "@odata.nextLink", "@odata.deltaLink",
    }
)  # fmt: skip
_ECHOED_OF_PROPERTY = re.compile(
    r"[A-Za-z_]\w*+@(?:OData\.Community\.Display\.V1\.FormattedValue"
    r"|Microsoft\.Dynamics\.CRM\.(?:associatednavigationproperty|lookuplogicalname)"
    r"|odata\.(?:type|navigationLink|associationLink|nextLink|count|context|etag|media\w+))",
    re.ASCII,
)
_LOOKUP_VALUE = re.compile(r"_\w+_value", re.ASCII)
_TYPE = re.compile(rf"#?{re.escape(NAMESPACE)}\.([A-Za-z_]\w*+)", re.ASCII)


class Record(msgspec.Struct, frozen=True):
    """One row as a body writes it. Members keep their order; nested rows are records too."""

    entity_set: str
    creates: bool
    members: tuple[tuple[str, Any], ...]

    def __repr__(self) -> str:
        return f"Record({self.entity_set!r}, {len(self.members)} members)"

    def json(self) -> dict[str, Json]:
        return {name: _plain(value) for name, value in self.members}


def _plain(value: Any) -> Json:
    if isinstance(value, Record):
        return value.json()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    plain: Json = value
    return plain


@dataclass(slots=True)
class _Open:
    """A row while its members are read. `written` are columns of its own table."""

    scope: Scope
    operations: tuple[Operation, ...]
    key: Key | None
    keep: tuple[str, ...]
    written: set[str]
    members: list[tuple[str, Any]]

    @property
    def made(self) -> bool:
        """Whether it is new for certain: an upsert may find it there."""
        return Operation.UPDATE not in self.operations


@dataclass(frozen=True, slots=True)
class Writer:
    """Reads bodies that write rows.

    A row's operations are create, update, or both: an upsert that no precondition has closed.
    """

    resolver: Resolver
    context: Context

    def record(
        self,
        body: Json,
        scope: Scope,
        operations: tuple[Operation, ...],
        *,
        key: Key | None = None,
        typed: bool = False,
        lookup: str | None = None,
        keep: tuple[str, ...] = (),
    ) -> tuple[Record, frozenset[str]]:
        """The record, and the columns it writes on its own table.

        `key` is the row's, where the address says it; `typed`: `@odata.type` must be there;
        `lookup`: the column that nesting sets; `keep`: annotations that the message needs.
        """
        if not isinstance(body, dict):
            raise Unreadable("bad-body", "a row is written as an object")
        if typed and "@odata.type" not in body:
            raise Unreadable("bad-body", f"every item needs the @odata.type of {scope.table.name}")
        written = set() if lookup is None else {lookup}
        row = _Open(scope, operations, key, keep, written, [])
        for name, value in body.items():
            if "@" in name:
                self._annotation(name, value, row)
            else:
                row.members.append((name, self._member(name, value, row)))
        if OWNER in row.written:
            self.resolver.found.use(scope.sets, Operation.ASSIGN)
        record = Record(scope.sets[0], Operation.CREATE in operations, tuple(row.members))
        return record, frozenset(row.written)

    def _member(self, name: str, value: Json, row: _Open) -> Any:
        table = row.scope.table
        if name[:1] == "_" and _LOOKUP_VALUE.fullmatch(name):
            raise Unreadable(
                "bad-body", f"{_shown(name)} cannot be written: use its navigation property"
            )
        known = table.properties.get(name)
        if known is None:
            navigation = table.navigations.get(name)
            if navigation is None:
                return self._unknown(name, value, row)
            return self._nested(navigation, value, row)
        if not is_scalar(value):
            raise Unreadable("bad-body", f"{name} takes a single value")
        if known.column not in table.key_columns:
            row.written.add(known.column)
        elif row.key is not None and not _same_id(row.key, value, table):
            raise Unreadable("bad-body", f"{name} is not the id of the row addressed")
        elif row.key is None and not row.made and value is not None:
            raise Unreadable("bad-body", f"{name} cannot be given to a row that a part names")
        return value

    def _unknown(self, name: str, value: Json, row: _Open) -> Json:
        for table in row.scope.sets:
            for operation in row.operations:
                self.resolver.found.demand(Unknown(name, table, operation))
        return redirected_body(value, self.context.bases)

    def _annotation(self, name: str, value: Json, row: _Open) -> None:
        owner, _, term = name.partition("@")
        if name == "@odata.type":
            require_type(value, row.scope.table)
            row.members.append((name, value))
        elif name in row.keep:
            row.members.append((name, value))
        elif term == "odata.bind" and owner:
            row.members.append((name, self._bind(owner, value, row)))
        elif name not in _ECHOED and _ECHOED_OF_PROPERTY.fullmatch(name) is None:
            raise Unreadable("bad-body", "the body has an annotation that is not read")

    # ------------------------------------------------------------- joining

    def _bind(self, owner: str, value: Json, row: _Open) -> Json:
        navigation = row.scope.table.navigations.get(owner)
        target = None if navigation is None else self._target(navigation)
        if navigation is None or target is None:
            self._unknown(owner, None, row)
            return redirected_references(value, self.context.bases)
        if navigation.collection:
            if not isinstance(value, list):
                raise Unreadable("bad-body", f"{owner}@odata.bind takes a list of references")
            return [self._joined(v, target, navigation, row) for v in value]
        assert navigation.column is not None
        row.written.add(navigation.column)
        return None if value is None else self._joined(value, target, navigation, row)

    def _joined(self, value: Json, target: Scope, navigation: Navigation, row: _Open) -> str:
        if not isinstance(value, str):
            raise Unreadable("bad-body", f"{navigation.name}@odata.bind takes a reference")
        reference = read_reference(value, self.context.bases)
        found = referenced(self.resolver, self.context, reference, target)
        if found is not None:
            sets, made = found
            join(
                self.resolver.found,
                navigation,
                near=row.scope.sets,
                far=sets,
                near_made=row.made,
                far_made=made,
            )
        return value if reference.content_id is not None else f"/{reference.relative()}"

    def _target(self, navigation: Navigation) -> Scope | None:
        sets = self.resolver.schema.sets_of(navigation.target)
        if sets is None or navigation.unclear:
            return None
        return Scope(self.resolver.schema.tables[navigation.target], sets)

    # ------------------------------------------------------------- nesting

    def _nested(self, navigation: Navigation, value: Json, row: _Open) -> Any:
        """A deep insert: rows of another table made along with this one."""
        target = self._target(navigation)
        if target is None:
            return self._unknown(navigation.name, value, row)
        if not navigation.collection:
            assert navigation.column is not None
            row.written.add(navigation.column)
            return None if value is None else self._insert(value, target, None)
        if not isinstance(value, list):
            raise Unreadable("bad-body", f"{navigation.name} takes a list of rows")
        if not row.made:
            self.resolver.found.use(row.scope.sets, Operation.APPEND_TO)
        if navigation.many_to_many:
            self.resolver.found.demand(Association((row.scope.sets[0], target.sets[0])))
        return tuple(self._insert(v, target, navigation.column) for v in value)

    def _insert(self, value: Json, target: Scope, lookup: str | None) -> Record:
        if len(target.sets) > 1 or target.table.abstract:
            raise Unreadable("bad-body", "a nested row's table is not clear: bind it instead")
        if isinstance(value, dict) and "@odata.id" in value:
            raise Unreadable("bad-body", "a nested row has an @odata.id: bind it instead")
        record, columns = self.record(value, target, (Operation.CREATE,), lookup=lookup)
        self.resolver.found.use(target.sets, Operation.CREATE, *columns)
        return record


def _shown(name: str) -> str:
    return name if len(name) <= 80 else name[:80] + "…"


def require_type(value: Json, table: Table) -> None:
    match = _TYPE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match.group(1) != table.name:
        raise Unreadable("bad-body", f"@odata.type must be that of {table.name}")


def _same_id(key: Key, value: Json, table: Table) -> bool:
    if not isinstance(value, str) or not is_guid(value):
        return False
    return key.id_in(table.primary_key) == value.lower()


def is_scalar(value: Json) -> bool:
    return value is None or isinstance(value, (str, bool, Number))
