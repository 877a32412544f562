"""Read CSDL (`$metadata`, OData 4.0 XML) bit by bit into a `Schema`.

A genuine document has some 800 tables and 6 MB. `CsdlReader.feed` takes it in pieces, so that
an event loop can breathe between them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from sys import intern
from xml.parsers import expat

from app.schema.model import Navigation, Property, Routine, Schema, Table

_ALTERNATE_KEYS = "OData.Community.Keys.V1.AlternateKeys"
_KEY_PART = "OData.Community.Keys.V1.PropertyRef"
_KEY = "OData.Community.Keys.V1.AlternateKey"


class SchemaUnreadable(ValueError):
    """The document is no CSDL, or lies about itself (a base type that is not there)."""


@dataclass(slots=True)
class _Navigation:
    name: str
    type: str
    partner: str | None
    constraint: str | None = None


@dataclass(slots=True)
class _Type:
    name: str
    base: str | None
    abstract: bool
    key: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    navigations: dict[str, _Navigation] = field(default_factory=dict)
    alternate_keys: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(slots=True)
class _Routine:
    name: str
    is_action: bool
    bound: bool
    parameters: list[tuple[str, str]] = field(default_factory=list)


class CsdlReader:
    """Feed it the document, then `finish()` it once."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        # A schema has no use for a DTD, and entities are how XML documents explode.
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.buffer_text = True
        self._digest = hashlib.sha256()
        self._aliases: dict[str, str] = {}
        self._types: dict[str, _Type] = {}
        self._routines: list[_Routine] = []
        self._sets: dict[str, str] = {}
        self._imports: dict[str, str] = {}
        self._type: _Type | None = None
        self._navigation: _Navigation | None = None
        self._routine: _Routine | None = None
        self._alternate: list[str] | None = None
        self._alternate_depth = 0
        self._in_alternate_keys = False

    def feed(self, data: bytes) -> None:
        """Raises `SchemaUnreadable`."""
        self._digest.update(data)
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            raise SchemaUnreadable(f"$metadata is not well-formed XML: {error}") from error

    def finish(self) -> Schema:
        """Raises `SchemaUnreadable`."""
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise SchemaUnreadable(f"$metadata is not well-formed XML: {error}") from error
        if not self._sets:
            raise SchemaUnreadable("$metadata names no entity set")
        return _Builder(self).schema(self._digest.hexdigest()[:16])

    # ------------------------------------------------------------ handlers

    def _doctype(self, *_: object) -> None:
        raise SchemaUnreadable("$metadata has a DOCTYPE")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        handler = getattr(self, f"_start_{name}", None)
        if handler is not None:
            handler(attributes)

    def _end(self, tag: str) -> None:
        name = tag.rpartition(" ")[2]
        if name in {"EntityType", "ComplexType"}:
            self._type = None
        elif name == "NavigationProperty":
            self._navigation = None
        elif name in {"Function", "Action"}:
            self._routine = None
        elif name == "Annotation":
            self._in_alternate_keys = False
        elif name == "Record" and self._alternate is not None and self._type is not None:
            if self._alternate_depth == 0:
                if self._alternate:
                    self._type.alternate_keys.append(tuple(self._alternate))
                self._alternate = None
            else:
                self._alternate_depth -= 1

    def _start_Schema(self, a: dict[str, str]) -> None:  # noqa: N802 - CSDL's element names
        self._aliases[a["Namespace"]] = a["Namespace"]
        if "Alias" in a:
            self._aliases[a["Alias"]] = a["Namespace"]

    def _start_EntityType(self, a: dict[str, str]) -> None:  # noqa: N802
        base = a.get("BaseType")
        self._type = _Type(
            name=intern(a["Name"]),
            base=None if base is None else _unqualified(base),
            abstract=a.get("Abstract") == "true",
        )
        self._types[self._type.name] = self._type

    def _start_PropertyRef(self, a: dict[str, str]) -> None:  # noqa: N802
        if self._type is not None:
            self._type.key.append(intern(a["Name"]))

    def _start_Property(self, a: dict[str, str]) -> None:  # noqa: N802
        if self._type is not None:
            self._type.properties[intern(a["Name"])] = intern(a["Type"])

    def _start_NavigationProperty(self, a: dict[str, str]) -> None:  # noqa: N802
        if self._type is not None:
            self._navigation = _Navigation(intern(a["Name"]), a["Type"], a.get("Partner"))
            self._type.navigations[self._navigation.name] = self._navigation

    def _start_ReferentialConstraint(self, a: dict[str, str]) -> None:  # noqa: N802
        if self._navigation is not None:
            self._navigation.constraint = a["Property"]

    def _start_Annotation(self, a: dict[str, str]) -> None:  # noqa: N802
        self._in_alternate_keys = a.get("Term") == _ALTERNATE_KEYS and self._type is not None

    def _start_Record(self, a: dict[str, str]) -> None:  # noqa: N802
        if not self._in_alternate_keys:
            return
        if a.get("Type") == _KEY:
            self._alternate = []
            self._alternate_depth = 0
        elif self._alternate is not None:
            self._alternate_depth += 1

    def _start_PropertyValue(self, a: dict[str, str]) -> None:  # noqa: N802
        if self._alternate is not None and a.get("Property") == "Name" and "PropertyPath" in a:
            self._alternate.append(intern(a["PropertyPath"]))

    def _start_Function(self, a: dict[str, str]) -> None:  # noqa: N802
        self._routine = _Routine(a["Name"], is_action=False, bound=a.get("IsBound") == "true")
        self._routines.append(self._routine)

    def _start_Action(self, a: dict[str, str]) -> None:  # noqa: N802
        self._routine = _Routine(a["Name"], is_action=True, bound=a.get("IsBound") == "true")
        self._routines.append(self._routine)

    def _start_Parameter(self, a: dict[str, str]) -> None:  # noqa: N802
        if self._routine is not None:
            self._routine.parameters.append((a["Name"], a["Type"]))

    def _start_EntitySet(self, a: dict[str, str]) -> None:  # noqa: N802
        self._sets[intern(a["Name"])] = _unqualified(a["EntityType"])

    def _start_FunctionImport(self, a: dict[str, str]) -> None:  # noqa: N802
        self._imports[a["Name"]] = _unqualified(a["Function"])

    def _start_ActionImport(self, a: dict[str, str]) -> None:  # noqa: N802
        self._imports[a["Name"]] = _unqualified(a["Action"])


def _unqualified(name: str) -> str:
    """`mscrm.account` and `Microsoft.Dynamics.CRM.account` are the type `account`."""
    return intern(name.rpartition(".")[2])


def _collection(type_name: str) -> tuple[str, bool]:
    if type_name.startswith("Collection(") and type_name.endswith(")"):
        return _unqualified(type_name[len("Collection(") : -1]), True
    return _unqualified(type_name), False


class _Builder:
    """Turns what the document said into a `Schema`: inheritance folded, lookups matched."""

    def __init__(self, reader: CsdlReader) -> None:
        self._types = reader._types  # noqa: SLF001 - the reader's other half
        self._routines = reader._routines  # noqa: SLF001
        self._sets = reader._sets  # noqa: SLF001
        self._imports = reader._imports  # noqa: SLF001
        self._shared: dict[tuple[str, str], Property] = {}
        self._lineage: dict[str, tuple[_Type, ...]] = {}

    def schema(self, version: str) -> Schema:
        derived: dict[str, list[str]] = {}
        for name in self._types:
            for ancestor in self._ancestry(name):
                derived.setdefault(ancestor.name, []).append(name)
        set_of = {type_name: set_name for set_name, type_name in self._sets.items()}
        tables = {name: self._table(t, set_of.get(name)) for name, t in self._types.items()}
        imports, bound = self._calls()
        return Schema(
            version=version,
            tables=tables,
            sets={s: tables[t] for s, t in self._sets.items() if t in tables},
            imports=imports,
            bound=bound,
            derived={name: tuple(sorted(found)) for name, found in derived.items()},
        )

    def _ancestry(self, name: str) -> tuple[_Type, ...]:
        """The type itself first, then its base types."""
        known = self._lineage.get(name)
        if known is not None:
            return known
        chain: list[_Type] = []
        at: str | None = name
        while at is not None:
            found = self._types.get(at)
            if found is None or found in chain:
                raise SchemaUnreadable(f"the type {name} has an unknown or circular base {at}")
            chain.append(found)
            at = found.base
        self._lineage[name] = tuple(chain)
        return self._lineage[name]

    def _table(self, of: _Type, entity_set: str | None) -> Table:
        chain = self._ancestry(of.name)
        properties: dict[str, Property] = {}
        navigations: dict[str, Navigation] = {}
        key: tuple[str, ...] = ()
        alternate: list[tuple[str, ...]] = []
        for ancestor in reversed(chain):
            key = tuple(ancestor.key) or key
            alternate.extend(ancestor.alternate_keys)
            for name, type_name in ancestor.properties.items():
                properties[name] = self._property(name, type_name)
        for ancestor in reversed(chain):
            for navigation in ancestor.navigations.values():
                navigations[navigation.name] = self._navigation(navigation, properties)
        return Table(
            name=of.name,
            entity_set=entity_set,
            base=of.base,
            abstract=of.abstract,
            key=key,
            properties=properties,
            navigations=navigations,
            alternate_keys=tuple(alternate),
            columns={p.column: p for p in properties.values()},
        )

    def _property(self, name: str, type_name: str) -> Property:
        shared = self._shared.get((name, type_name))
        if shared is None:
            is_lookup = name.startswith("_") and name.endswith("_value")
            column = intern(name[1 : -len("_value")]) if is_lookup else name
            shared = self._shared[(name, type_name)] = Property(name, column, type_name)
        return shared

    def _navigation(self, of: _Navigation, properties: dict[str, Property]) -> Navigation:
        target, collection = _collection(of.type)
        if not collection:
            lookup = properties.get(of.constraint or "")
            return Navigation(
                of.name,
                target,
                collection=False,
                column=None if lookup is None else lookup.column,
                unclear=lookup is None,
            )
        partner = self._partner(target, of.partner)
        if partner is None:
            return Navigation(of.name, target, collection=True, unclear=True)
        if _collection(partner.type)[1]:
            return Navigation(of.name, target, collection=True)
        if partner.constraint is None:
            return Navigation(of.name, target, collection=True, unclear=True)
        return Navigation(
            of.name,
            target,
            collection=True,
            column=self._property(partner.constraint, "Edm.Guid").column,
        )

    def _partner(self, target: str, partner: str | None) -> _Navigation | None:
        if partner is None or target not in self._types:
            return None
        for ancestor in self._ancestry(target):
            if partner in ancestor.navigations:
                return ancestor.navigations[partner]
        return None

    def _calls(self) -> tuple[dict[str, Routine], dict[str, tuple[Routine, ...]]]:
        imported = set(self._imports.values())
        imports: dict[str, Routine] = {}
        bound: dict[str, tuple[Routine, ...]] = {}
        for routine in self._routines:
            names = tuple(name for name, _ in routine.parameters)
            if routine.bound and routine.parameters:
                target, collection = _collection(routine.parameters[0][1])
                found = Routine(routine.name, routine.is_action, target, collection, names[1:])
                bound[routine.name] = (*bound.get(routine.name, ()), found)
            elif routine.name in imported:
                imports[routine.name] = Routine(routine.name, routine.is_action, parameters=names)
        return imports, bound


def read_csdl(document: bytes) -> Schema:
    """Read a whole document at once. Raises `SchemaUnreadable`."""
    reader = CsdlReader()
    reader.feed(document)
    return reader.finish()
