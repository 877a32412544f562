"""A `Schema` as a few hundred kilobytes, to be kept on disk and read back in a moment.

MessagePack under zlib: what `$metadata` repeats in each of its tables (`createdon`, say) is
written once and pointed at. Another format's bytes, or cut ones, are refused as unreadable.
"""

from __future__ import annotations

import zlib
from sys import intern

import msgspec

from app.schema.building import SchemaUnreadable
from app.schema.model import Navigation, Property, Routine, Schema, Table

_FORMAT = b"dvb-schema-1\n"
_BYTES_MAX = 256 * 1024 * 1024
"""Unpacked; a damaged file must not take the memory of the process."""


class _Property(msgspec.Struct, array_like=True, frozen=True):
    name: str
    column: str
    type: str


class _Navigation(msgspec.Struct, array_like=True, frozen=True):
    name: str
    target: str
    collection: bool
    column: str | None
    unclear: bool


class _Table(msgspec.Struct, array_like=True, frozen=True):
    """Properties and navigation properties are places in the document's own lists."""

    name: str
    entity_set: str | None
    base: str | None
    abstract: bool
    key: tuple[str, ...]
    properties: tuple[int, ...]
    navigations: tuple[int, ...]
    alternate_keys: tuple[tuple[str, ...], ...]


class _Routine(msgspec.Struct, array_like=True, frozen=True):
    name: str
    is_action: bool
    bound_to: str | None
    bound_to_collection: bool
    parameters: tuple[str, ...]


class _Document(msgspec.Struct, array_like=True, frozen=True):
    version: str
    properties: tuple[_Property, ...]
    navigations: tuple[_Navigation, ...]
    tables: tuple[_Table, ...]
    sets: dict[str, str]
    imports: dict[str, _Routine]
    bound: dict[str, tuple[_Routine, ...]]
    derived: dict[str, tuple[str, ...]]
    metadata_ids: dict[str, str]


def encode(schema: Schema) -> bytes:
    """Everything that the schema holds, its version and MetadataIds included."""
    properties: dict[Property, int] = {}
    navigations: dict[Navigation, int] = {}
    tables = tuple(
        _Table(
            table.name,
            table.entity_set,
            table.base,
            table.abstract,
            table.key,
            tuple(properties.setdefault(p, len(properties)) for p in table.properties.values()),
            tuple(navigations.setdefault(n, len(navigations)) for n in table.navigations.values()),
            table.alternate_keys,
        )
        for table in schema.tables.values()
    )
    document = _Document(
        schema.version,
        tuple(_Property(p.name, p.column, p.type) for p in properties),
        tuple(
            _Navigation(n.name, n.target, n.collection, n.column, n.unclear) for n in navigations
        ),
        tables,
        {name: table.name for name, table in schema.sets.items()},
        {name: _packed(routine) for name, routine in schema.imports.items()},
        {name: tuple(_packed(r) for r in found) for name, found in schema.bound.items()},
        dict(schema.derived),
        dict(schema.metadata_ids),
    )
    return _FORMAT + zlib.compress(msgspec.msgpack.encode(document), level=6)


def decode(data: bytes) -> Schema:
    """Raises `SchemaUnreadable`."""
    if not data.startswith(_FORMAT):
        raise SchemaUnreadable("this is no kept schema, or one of another release")
    try:
        document = msgspec.msgpack.decode(_unpacked(data[len(_FORMAT) :]), type=_Document)
        return _schema(document)
    except (zlib.error, msgspec.DecodeError, IndexError, KeyError) as error:
        raise SchemaUnreadable("the kept schema is damaged") from error


def _unpacked(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    unpacked = inflate.decompress(data, _BYTES_MAX)
    if not inflate.eof:
        raise SchemaUnreadable("the kept schema is cut off")
    return unpacked


def _packed(routine: Routine) -> _Routine:
    return _Routine(
        routine.name,
        routine.is_action,
        routine.bound_to,
        routine.bound_to_collection,
        routine.parameters,
    )


def _routine(of: _Routine) -> Routine:
    return Routine(of.name, of.is_action, of.bound_to, of.bound_to_collection, of.parameters)


def _schema(document: _Document) -> Schema:
    properties = [
        Property(intern(p.name), intern(p.column), intern(p.type)) for p in document.properties
    ]
    navigations = [
        Navigation(intern(n.name), intern(n.target), n.collection, n.column, n.unclear)
        for n in document.navigations
    ]
    tables = {t.name: _table(t, properties, navigations) for t in document.tables}
    return Schema(
        version=document.version,
        tables=tables,
        sets={name: tables[table] for name, table in document.sets.items()},
        imports={name: _routine(r) for name, r in document.imports.items()},
        bound={name: tuple(_routine(r) for r in found) for name, found in document.bound.items()},
        derived=document.derived,
        metadata_ids=document.metadata_ids,
    )


def _table(of: _Table, properties: list[Property], navigations: list[Navigation]) -> Table:
    own = [properties[i] for i in of.properties]
    return Table(
        name=of.name,
        entity_set=of.entity_set,
        base=of.base,
        abstract=of.abstract,
        key=of.key,
        properties={p.name: p for p in own},
        navigations={n.name: n for n in (navigations[i] for i in of.navigations)},
        alternate_keys=of.alternate_keys,
        columns={p.column: p for p in own},
    )
