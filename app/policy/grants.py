"""A caller's grant, compiled against a schema: quick to ask, and closed where it is silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.odata.access import ALL, Columns, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.config.model import Limits
    from app.odata.fetchxml import Node
    from app.odata.json_text import Json
    from app.odata.tree import Expression
    from app.schema.model import Schema, Table

CARRIES_RIGHTS = frozenset(
    {
        "systemuser", "team", "role", "privilege", "roleprivileges", "systemuserroles",
        "teamroles", "teammembership", "principal", "principalobjectaccess",
        "principalobjectattributeaccess", "fieldsecurityprofile", "fieldpermission",
        "systemuserprofiles", "teamprofiles", "columnsecurityprofile", "attributemaskingrule",
        "maskingrule", "pluginassembly", "plugintype", "pluginpackage",
        "sdkmessageprocessingstep", "sdkmessageprocessingstepimage",
        "sdkmessageprocessingstepsecureconfig", "serviceendpoint", "workflow", "processtrigger",
        "callbackregistration", "webresource", "customapi", "customapirequestparameter",
        "customapiresponseproperty", "environmentvariabledefinition", "environmentvariablevalue",
        "connectionreference", "connector", "managedidentity",
    }
)  # fmt: skip
"""Logical names of tables that carry rights or code: `"*"` never writes them.

The names beyond those of the reference's PR-49 are general knowledge, not verified.
"""

_WRITES = frozenset({Operation.CREATE, Operation.UPDATE, Operation.DELETE, Operation.ASSIGN})


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A condition that every row of a table must meet, in all the forms it is sent in.

    `sets` are the members that a create gets, where the condition is a conjunction of
    equalities; None where it is not, and rows cannot be created.
    """

    condition: Expression
    columns: frozenset[str]
    fetch: Node
    sets: tuple[tuple[str, Json], ...] | None = None


@dataclass(frozen=True, slots=True)
class TableRights:
    """What a grant allows on one table."""

    operations: frozenset[Operation]
    readable: Columns = ALL
    writable: Columns = ALL
    row_filter: RowFilter | None = None
    selectable: tuple[str, ...] = ()
    """Readable columns in the grant's order, those that the schema knows; empty for all."""

    @property
    def restricts(self) -> bool:
        return self.readable is not ALL or self.writable is not ALL or self.row_filter is not None


@dataclass(frozen=True, slots=True)
class Grant:
    """One caller's rights in one environment, as one application or one of a pool.

    `version` changes with anything that a decision depends on.
    """

    caller: str
    environment: str
    applications: tuple[str, ...]
    enforce: bool
    issue_token: bool
    tables: Mapping[str, TableRights]
    star: TableRights | None
    functions: frozenset[tuple[str, str | None]]
    actions: frozenset[tuple[str, str | None]]
    metadata: str
    impersonate_as: str | None
    caller_ids: frozenset[str]
    headers: Mapping[str, str]
    limits: Limits
    version: str
    schema: Schema = field(repr=False)

    def rights(self, entity_set: str) -> TableRights | None:
        named = self.tables.get(entity_set)
        return self.star_for(entity_set) if named is None else named

    def star_for(self, entity_set: str) -> TableRights | None:
        """What `"*"` gives on a table without an entry of its own.

        Rows of a base type (`activitypointers`) are rows of the tables that derive from it: what
        an entry holds back there, `"*"` does not give away here.
        """
        if self.star is None:
            return None
        table = self.schema.sets.get(entity_set)
        operations = self.star.operations
        for name in () if table is None else self.schema.derived.get(table.name, (table.name,)):
            if name in CARRIES_RIGHTS:
                operations -= _WRITES
            entry = self.tables.get(self.schema.tables[name].entity_set or "")
            if entry is not None:
                operations = frozenset() if entry.restricts else operations & entry.operations
        return self.star if operations == self.star.operations else TableRights(operations)

    def filter_of(self, entity_set: str) -> RowFilter | None:
        rights = self.rights(entity_set)
        return None if rights is None else rights.row_filter

    @property
    def filters_rows(self) -> bool:
        return any(r.row_filter is not None for r in self.tables.values())

    @property
    def restricts_nothing(self) -> bool:
        """Whether what cannot be read may pass: everything readable, nothing held back."""
        star = self.star
        if star is None or Operation.READ not in star.operations or star.restricts:
            return False
        return all(
            Operation.READ in r.operations and r.readable is ALL and r.row_filter is None
            for r in self.tables.values()
        )


def carries_rights(table: Table) -> bool:
    return table.name in CARRIES_RIGHTS
