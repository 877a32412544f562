"""`CreateMultiple` and its like: every item of Targets read as the single request it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.access import Operation
from app.odata.headers import is_guid
from app.odata.links import Reference, read_reference
from app.odata.reading import Targets
from app.odata.rows import address, key_columns
from app.odata.segments import Key
from app.odata.tree import Literal

if TYPE_CHECKING:
    from app.odata.body import Record, Writer
    from app.odata.json_text import Json
    from app.odata.resolve import Scope

_OPERATIONS = {
    "CreateMultiple": (Operation.CREATE,),
    "UpdateMultiple": (Operation.UPDATE,),
    "UpsertMultiple": (Operation.UPDATE, Operation.CREATE),
    "DeleteMultiple": (Operation.DELETE,),
}
BULK = frozenset(_OPERATIONS)


def read_targets(writer: Writer, name: str, value: Json, scope: Scope) -> Targets:
    """Raises `Unreadable`."""
    if not isinstance(value, dict) or value.keys() != {"Targets"}:
        raise Unreadable("bad-body", f'{name} takes {{"Targets": […]}} and nothing else')
    items = value["Targets"]
    if not isinstance(items, list) or not items:
        raise Unreadable("bad-body", f"{name} takes a list of Targets")
    operations = _OPERATIONS[name]
    if name == "UpsertMultiple":
        writer.resolver.found.unfilterable(scope.sets, "upsert")
    return Targets(tuple(_target(writer, i, scope, operations) for i in items))


def _target(writer: Writer, item: Json, scope: Scope, operations: tuple[Operation, ...]) -> Record:
    if not isinstance(item, dict):
        raise Unreadable("bad-body", "every one of Targets is an object")
    found = writer.resolver.found
    key = None
    named: tuple[str, ...] = ()
    if operations != (Operation.CREATE,):
        key = _key(writer, item, scope)
        if key is not None:
            named = key_columns(writer.resolver, scope, key)
            address(writer.resolver, scope, key)
        if "@odata.id" in item and key is not None:
            item = {**item, "@odata.id": Reference(scope.sets[0], key).relative()}
    elif "@odata.id" in item:
        raise Unreadable("bad-body", "a row that is created has no @odata.id")
    record, columns = writer.record(
        item, scope, operations, key=key, typed=True, keep=("@odata.id",)
    )
    if key is None and operations != (Operation.CREATE,):
        _alternate(writer, columns, scope)
    if operations == (Operation.DELETE,):
        if columns:
            raise Unreadable("bad-body", "DeleteMultiple takes ids and no other columns")
        found.use(scope.sets, Operation.DELETE)
        return record
    for operation in operations:
        # Whoever creates by an alternate key writes its columns.
        found.use(scope.sets, operation, *columns)
        if operation is Operation.CREATE:
            found.use(scope.sets, operation, *named)
    return record


def _key(writer: Writer, item: dict[str, Json], scope: Scope) -> Key | None:
    """The row that an item means, by `@odata.id` or by its primary key.

    None: by columns of an alternate key that stand among the others.
    """
    link = item.get("@odata.id")
    if link is not None:
        if not isinstance(link, str):
            raise Unreadable("bad-body", "@odata.id is a reference")
        reference = read_reference(link, writer.context.bases)
        if reference.key is None or reference.entity_set not in scope.sets:
            raise Unreadable("bad-body", "@odata.id leads to another table than the items'")
        return reference.key
    primary_key = scope.table.primary_key
    primary = item.get(primary_key)
    if primary is None:
        return None
    if not isinstance(primary, str) or not is_guid(primary):
        raise Unreadable("bad-body", f"{primary_key} is a GUID")
    return Key(((None, Literal(primary)),))


def _alternate(writer: Writer, written: frozenset[str], scope: Scope) -> None:
    """A row found by its columns' values tells them: they count as filtered on."""
    writer.resolver.found.unfilterable(scope.sets, "alternate key")
    for names in scope.table.alternate_keys:
        columns = {scope.table.properties[n].column for n in names if n in scope.table.properties}
        if columns <= written:
            writer.resolver.found.read(scope.sets, *columns)
