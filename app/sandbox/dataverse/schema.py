"""What tables, columns and relationships there are: the values that everything else reads.

`tables` declares them; `Schema` joins them up so that each table knows its inherited columns
and its navigation properties.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal[
    "id",
    "string",
    "memo",
    "int",
    "bigint",
    "decimal",
    "money",
    "bool",
    "choice",
    "choices",
    "state",
    "status",
    "datetime",
    "date",
    "guid",
    "lookup",
    "file",
    "image",
]

NAMESPACE = "Microsoft.Dynamics.CRM"
_IDS = UUID("5d7a1c52-9a0e-4b7e-8f0b-51c1de5a4b0c")

EDM = {
    "id": "Edm.Guid",
    "string": "Edm.String",
    "memo": "Edm.String",
    "int": "Edm.Int32",
    "bigint": "Edm.Int64",
    "decimal": "Edm.Decimal",
    "money": "Edm.Decimal",
    "bool": "Edm.Boolean",
    "choice": "Edm.Int32",
    "choices": "Edm.String",
    "state": "Edm.Int32",
    "status": "Edm.Int32",
    "datetime": "Edm.DateTimeOffset",
    "date": "Edm.Date",
    "guid": "Edm.Guid",
    "lookup": "Edm.Guid",
    "file": "Edm.Guid",
    "image": "Edm.Binary",
}


def metadata_id(*names: str) -> str:
    """A MetadataId that is the same in every process, as it is in an environment."""
    return str(uuid5(_IDS, "/".join(names)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`targets`: the tables that a lookup may point at. `options`: what a choice may hold.

    `writable=False`: Dataverse computes it, and drops what a caller sends for it.
    """

    name: str
    kind: Kind
    label: str = ""
    schema_name: str = ""
    max_length: int = 0
    options: tuple[tuple[int, str], ...] = ()
    targets: tuple[str, ...] = ()
    writable: bool = True
    required: bool = False

    @property
    def property_name(self) -> str:
        return f"_{self.name}_value" if self.kind == "lookup" else self.name

    @property
    def edm(self) -> str:
        return EDM[self.kind]

    @property
    def polymorphic(self) -> bool:
        return len(self.targets) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OneToMany:
    """`lookup` of the table `child` points at `parent`; `nav` reads it, `collection` back.

    `cascades`: deleting the parent deletes the children; else their lookup is emptied.
    """

    name: str
    child: str
    lookup: str
    nav: str
    parent: str
    collection: str
    cascades: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyToMany:
    name: str
    left: str
    left_nav: str
    right: str
    right_nav: str
    intersect: str

    @property
    def left_column(self) -> str:
        return f"{self.left}id"

    @property
    def right_column(self) -> str:
        return f"{self.right}id" if self.right != self.left else f"{self.right}idtwo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nav:
    """A navigation property as one table sees it.

    `single`: `lookup` is a column of the table itself; `many`: of `target`; `associated`: the
    rows that `relation` pairs.
    """

    name: str
    kind: Literal["single", "many", "associated"]
    target: str
    lookup: str = ""
    partner: str = ""
    declared_on: str = ""
    relation: ManyToMany | None = None

    @property
    def is_collection(self) -> bool:
        return self.kind != "single"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An alternate key; `columns` are logical names."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`stored_in`: the SQLite table that holds its rows; a derived table shares its base's.

    `privilege`: what stands after prvRead, prvWrite, …; not always the schema name.
    """

    logical: str
    schema_name: str
    set_name: str
    pk: str
    name_column: str | None
    label: str
    type_code: int
    columns: tuple[Column, ...]
    privilege: str
    base: str | None = None
    abstract: bool = False
    owned: bool = False
    keys: tuple[Key, ...] = ()
    stored_in: str = ""
    navs: dict[str, Nav] = field(default_factory=dict, compare=False)
    by_name: dict[str, Column] = field(default_factory=dict, compare=False)
    by_property: dict[str, Column] = field(default_factory=dict, compare=False)
    inherited: frozenset[str] = frozenset()

    @property
    def metadata_id(self) -> str:
        return metadata_id(self.logical)

    @property
    def type_name(self) -> str:
        return f"{NAMESPACE}.{self.logical}"

    @property
    def money(self) -> bool:
        return any(c.kind == "money" for c in self.columns)


class Schema:
    """All tables, by logical name and by entity set; relationships; who derives from whom."""

    def __init__(
        self,
        tables: Iterable[Table],
        one_to_many: Iterable[OneToMany],
        many_to_many: Iterable[ManyToMany],
    ) -> None:
        self.tables: dict[str, Table] = {}
        for table in tables:
            self._add(table)
        self.sets = {t.set_name: t for t in self.tables.values() if t.set_name}
        self.by_metadata_id = {t.metadata_id: t for t in self.tables.values()}
        self.one_to_many = tuple(one_to_many)
        self.many_to_many = tuple(many_to_many)
        for relation in self.one_to_many:
            self._connect(relation)
        for pairs in self.many_to_many:
            self._pair(pairs)
        self.intersects = {pairs.intersect: _intersect(pairs) for pairs in self.many_to_many}
        for table in self.tables.values():
            if table.base is not None:
                for name, nav in self.tables[table.base].navs.items():
                    table.navs.setdefault(name, nav)

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables.values())

    def __getitem__(self, logical: str) -> Table:
        return self.tables[logical]

    def derived(self, logical: str) -> tuple[Table, ...]:
        return tuple(t for t in self.tables.values() if t.base == logical)

    def is_a(self, table: Table, logical: str) -> bool:
        """Whether a row of `table` may stand where one of `logical` is asked for."""
        return logical in {table.logical, table.base}

    def _add(self, table: Table) -> None:
        for column in table.columns:
            table.by_name[column.name] = column
            table.by_property[column.property_name] = column
        self.tables[table.logical] = table

    def _connect(self, relation: OneToMany) -> None:
        child, parent = self.tables[relation.child], self.tables[relation.parent]
        child.navs[relation.nav] = Nav(
            name=relation.nav,
            kind="single",
            target=relation.parent,
            lookup=relation.lookup,
            partner=relation.collection,
            declared_on=child.logical,
        )
        parent.navs[relation.collection] = Nav(
            name=relation.collection,
            kind="many",
            target=relation.child,
            lookup=relation.lookup,
            partner=relation.nav,
            declared_on=parent.logical,
        )

    def _pair(self, pairs: ManyToMany) -> None:
        for name, here, there, partner in (
            (pairs.left_nav, pairs.left, pairs.right, pairs.right_nav),
            (pairs.right_nav, pairs.right, pairs.left, pairs.left_nav),
        ):
            self.tables[here].navs[name] = Nav(
                name=name,
                kind="associated",
                target=there,
                partner=partner,
                declared_on=here,
                relation=pairs,
            )


def _intersect(pairs: ManyToMany) -> Table:
    """The table of pairs, as FetchXML may join it; it has no set and no privileges."""
    columns = tuple(
        Column(name=name, kind="guid", schema_name=name)
        for name in (pairs.left_column, pairs.right_column)
    )
    return Table(
        logical=pairs.intersect,
        schema_name=pairs.intersect,
        set_name="",
        pk=pairs.left_column,
        name_column=None,
        label=pairs.intersect,
        type_code=0,
        columns=columns,
        privilege="",
        by_name={c.name: c for c in columns},
        by_property={c.name: c for c in columns},
    )
