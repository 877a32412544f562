"""Keys and references resolved: which row of which table, and what naming it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.errors import Unreadable
from app.odata.demands import Row, Unfilterable, Unknown

if TYPE_CHECKING:
    from app.odata.links import Bases, Reference
    from app.odata.resolve import Resolver, Scope
    from app.odata.segments import Key


class Named(msgspec.Struct, frozen=True):
    """What a Content-ID stands for: a row of a table that an earlier part made or changed."""

    entity_set: str
    created: bool


class Context(msgspec.Struct):
    """What reading a part of a request needs beside the schema."""

    bases: Bases
    content: dict[str, Named] = {}


def key_columns(resolver: Resolver, scope: Scope, key: Key) -> tuple[str, ...]:
    """The columns of an alternate key, each noted as read: a key that matches tells its value."""
    columns: list[str] = []
    for name, _ in key.values:
        if name is None:
            if key.guid is None:
                raise Unreadable("bad-path", "a row's id is a GUID")
            continue
        known = scope.table.properties.get(name)
        if known is None:
            resolver.unknown(scope, name)
            continue
        if known.column not in scope.table.key_columns:
            columns.append(known.column)
    if columns:
        resolver.found.read(scope.sets, *columns)
    return tuple(columns)


def address(resolver: Resolver, scope: Scope, key: Key, *, writes: bool = False) -> None:
    """Note a row that the request addresses, so that a row filter can be asked for it."""
    for table in scope.sets:
        resolver.found.row(Row(table, key, writes=writes))
    if len(scope.sets) > 1:
        for table in scope.sets:
            resolver.found.demand(Unfilterable(table, "abstract navigation"))


def referenced(
    resolver: Resolver, context: Context, reference: Reference, expected: Scope
) -> tuple[tuple[str, ...], bool] | None:
    """The set that a reference leads to, and whether its row is made by the same request.

    The set must hold rows of the type that the navigation expects. None: not known.
    """
    if reference.content_id is not None:
        named = context.content.get(reference.content_id)
        if named is None:
            raise Unreadable(
                "bad-batch",
                f"${reference.content_id} names no earlier part of the same change set",
            )
        table = resolver.schema.sets.get(named.entity_set)
        if table is None or not resolver.schema.derives(table.name, expected.table.name):
            raise Unreadable("bad-link-target", f"${reference.content_id} is of another table")
        return (named.entity_set,), named.created
    table = resolver.schema.sets.get(reference.entity_set)
    if table is None:
        resolver.found.demand(Unknown(reference.entity_set))
        return None
    if not resolver.schema.derives(table.name, expected.table.name):
        raise Unreadable(
            "bad-link-target",
            f"{reference.entity_set} holds no rows that this reference can lead to",
        )
    assert reference.key is not None
    target = resolver.scope(table)
    key_columns(resolver, target, reference.key)
    address(resolver, target, reference.key)
    return target.sets, False
