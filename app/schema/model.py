"""An environment's tables as its `$metadata` tells of them: immutable, and quick to ask.

A *table* is an entity type. Policies and paths name it by its entity set; FetchXML, casts and
`@odata.type` by its logical name, which is the type's name. Properties and navigation
properties of base types are folded in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE = "Microsoft.Dynamics.CRM"

_FILE_TYPES = frozenset({"Edm.Binary", "Edm.Guid", "Edm.Stream"})


@dataclass(frozen=True, slots=True)
class Property:
    """A structural property. `column` is the attribute's logical name.

    They differ for lookups only: the property `_primarycontactid_value` is the column
    `primarycontactid`.
    """

    name: str
    column: str
    type: str

    @property
    def is_lookup(self) -> bool:
        return self.name != self.column

    @property
    def may_be_file(self) -> bool:
        """Whether bytes may be sent to it: a file column shows its id, an image its bytes."""
        return self.type in _FILE_TYPES and not self.is_lookup


@dataclass(frozen=True, slots=True)
class Navigation:
    """A navigation property.

    `column` is the lookup that it follows (on the source where single-valued, on the target
    where collection-valued). A collection without one is many-to-many, unless `unclear`: then
    the schema does not say what the relationship is made of.
    """

    name: str
    target: str
    collection: bool
    column: str | None = None
    unclear: bool = False

    @property
    def many_to_many(self) -> bool:
        return self.collection and self.column is None and not self.unclear


@dataclass(frozen=True, slots=True)
class Table:
    """An entity type. `entity_set` is None for abstract types, which no path can name."""

    name: str
    entity_set: str | None
    base: str | None
    abstract: bool
    key: tuple[str, ...]
    properties: Mapping[str, Property]
    navigations: Mapping[str, Navigation]
    alternate_keys: tuple[tuple[str, ...], ...] = ()
    columns: Mapping[str, Property] = field(default_factory=dict)
    """By logical name: what a policy's `columns` may hold."""
    primary_key: str = field(init=False, compare=False)
    """The column that holds the row's id: `accountid`, `activityid`, `systemuserid`."""
    key_columns: frozenset[str] = field(init=False, compare=False)
    """Columns that come with every row, and that nobody needs a grant for."""

    def __post_init__(self) -> None:
        own = f"{self.name}id"
        primary = own if own in self.properties or not self.key else self.key[0]
        # They follow from the rest, and are asked for with every member of every body.
        object.__setattr__(self, "primary_key", primary)
        object.__setattr__(self, "key_columns", frozenset((*self.key, primary)))


@dataclass(frozen=True, slots=True)
class Routine:
    """A function or an action. `bound_to` is a type's name, where it is bound."""

    name: str
    is_action: bool
    bound_to: str | None = None
    bound_to_collection: bool = False
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """A whole environment. `version` changes with the content, and is part of cache keys."""

    version: str
    tables: Mapping[str, Table]
    """By logical name, abstract types included."""
    sets: Mapping[str, Table]
    """By entity set name."""
    imports: Mapping[str, Routine]
    """Unbound functions and actions, by name."""
    bound: Mapping[str, tuple[Routine, ...]]
    """Bound functions and actions, by unqualified name."""
    derived: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By logical name: that type and all that derive from it."""
    metadata_ids: Mapping[str, str] = field(default_factory=dict)
    """MetadataId (lower case) to logical name."""

    def with_metadata_ids(self, ids: Mapping[str, str]) -> Schema:
        """The same tables, known by these ids too. The version tells of both."""
        said = "".join(f"{key}={name};" for key, name in sorted(ids.items()))
        digest = hashlib.sha256(said.encode()).hexdigest()[:8]
        document = self.version.partition(".")[0]
        return replace(self, metadata_ids=dict(ids), version=f"{document}.{digest}")

    def sets_of(self, type_name: str) -> tuple[str, ...] | None:
        """The entity sets that a navigation to this type reads, or None where it has none.

        An abstract type stands for every table that derives from it, even where it has an entity
        set of its own, as `principal` has.
        """
        table = self.tables.get(type_name)
        if table is None:
            return None
        derived = self._derived_sets(table)
        if derived:
            return derived
        return None if table.entity_set is None else (table.entity_set,)

    def sets_shown(self, table: Table) -> tuple[str, ...]:
        """The entity sets whose rows its own set shows: of an abstract type, the others' too."""
        assert table.entity_set is not None
        return (table.entity_set, *self._derived_sets(table))

    def _derived_sets(self, table: Table) -> tuple[str, ...]:
        if not table.abstract:
            return ()
        return tuple(
            s
            for t in self.derived.get(table.name, ())
            if t != table.name and (s := self.tables[t].entity_set)
        )

    def derives(self, type_name: str, ancestor: str) -> bool:
        return type_name in self.derived.get(ancestor, ())
