"""Make a `Schema` of what CSDL said: inheritance folded in, lookups matched to navigation."""

from __future__ import annotations

from dataclasses import dataclass, field
from sys import intern

from app.schema.model import Navigation, Property, Routine, Schema, Table


class SchemaUnreadable(ValueError):
    """The document is no CSDL, or lies about itself (a base type that is not there)."""


@dataclass(slots=True)
class RawNavigation:
    name: str
    type: str
    partner: str | None
    constraint: str | None = None


@dataclass(slots=True)
class RawType:
    name: str
    base: str | None
    abstract: bool
    key: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    navigations: dict[str, RawNavigation] = field(default_factory=dict)
    alternate_keys: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(slots=True)
class RawRoutine:
    name: str
    is_action: bool
    bound: bool
    parameters: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class RawSchema:
    """A document's statements, names unqualified. `sets` and `imports` by name, to types."""

    types: dict[str, RawType] = field(default_factory=dict)
    routines: list[RawRoutine] = field(default_factory=list)
    sets: dict[str, str] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)


def unqualified(name: str) -> str:
    """`mscrm.account` and `Microsoft.Dynamics.CRM.account` are the type `account`."""
    return intern(name.rpartition(".")[2])


def _collection(type_name: str) -> tuple[str, bool]:
    if type_name.startswith("Collection(") and type_name.endswith(")"):
        return unqualified(type_name[len("Collection(") : -1]), True
    return unqualified(type_name), False


class Builder:
    """`schema()` raises `SchemaUnreadable` where the document contradicts itself."""

    def __init__(self, raw: RawSchema) -> None:
        self._types = raw.types
        self._routines = raw.routines
        self._sets = raw.sets
        self._imports = raw.imports
        self._shared: dict[tuple[str, str], Property] = {}
        self._lineage: dict[str, tuple[RawType, ...]] = {}

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

    def _ancestry(self, name: str) -> tuple[RawType, ...]:
        """The type itself first, then its base types."""
        known = self._lineage.get(name)
        if known is not None:
            return known
        chain: list[RawType] = []
        at: str | None = name
        while at is not None:
            found = self._types.get(at)
            if found is None or found in chain:
                raise SchemaUnreadable(f"the type {name} has an unknown or circular base {at}")
            chain.append(found)
            at = found.base
        self._lineage[name] = tuple(chain)
        return self._lineage[name]

    def _table(self, of: RawType, entity_set: str | None) -> Table:
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

    def _navigation(self, of: RawNavigation, properties: dict[str, Property]) -> Navigation:
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

    def _partner(self, target: str, partner: str | None) -> RawNavigation | None:
        if partner is None or target not in self._types:
            return None
        for ancestor in self._ancestry(target):
            if partner in ancestor.navigations:
                return ancestor.navigations[partner]
        return None

    def _calls(self) -> tuple[dict[str, Routine], dict[str, tuple[Routine, ...]]]:
        """Unbound routines by the names that the container gives them, bound ones by their own."""
        unbound: dict[str, Routine] = {}
        bound: dict[str, tuple[Routine, ...]] = {}
        for routine in self._routines:
            names = tuple(name for name, _ in routine.parameters)
            if not routine.bound or not routine.parameters:
                unbound[routine.name] = Routine(routine.name, routine.is_action, parameters=names)
                continue
            target, collection = _collection(routine.parameters[0][1])
            found = Routine(routine.name, routine.is_action, target, collection, names[1:])
            bound[routine.name] = (*bound.get(routine.name, ()), found)
        imports = {n: unbound[r] for n, r in self._imports.items() if r in unbound}
        return imports, bound
