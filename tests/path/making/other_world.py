"""The same environment with another content where a grant lets nobody look.

If an answer differs between the two, it told something that was not granted: by a value, by a
number of rows, by their order, or by an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.config.model import Operation
from app.odata.access import ALL
from app.odata.tree import text
from tests.path.making.names import TABLES
from tests.path.second_reader import Dataverse, dataverse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.policy.grants import Grant
    from app.sandbox.dataverse.schema import Column, Table

SQL = {
    "statecode eq 0": "statecode = 0",
    "industrycode eq 7 or creditonhold eq false": "(industrycode = 7 OR creditonhold = 0)",
    "name ne null": "name IS NOT NULL",
    "contains(jobtitle,'a')": "jobtitle LIKE '%a%'",
    "statecode eq 0 and totalamount lt 2000": "statecode = 0 AND totalamount < 2000",
    "new_status eq 1": "new_status = 1",
    "notetext ne null": "notetext IS NOT NULL",
}
"""Row filters as the store reads them; those that `grants` makes up, and no others."""

_TOLD = frozenset(
    {
        "firstname", "lastname", "versionnumber", "activitytypecode", "transactioncurrencyid",
        "currencysymbol", "ownerid", "owninguser", "owningteam", "owningbusinessunit",
        "applicationid", "azureactivedirectoryobjectid", "isdisabled", "accessmode",
        "businessunitid",
    }
)  # fmt: skip
"""Columns that come unasked beside others, make them up, or that Dataverse itself goes by."""
_UNASKED_PREFIXES = ("address1_",)


def twin() -> Dataverse:
    """A second environment in which everything has the same ids."""
    first, other = dataverse(), Dataverse()
    mine, yours = _broker_user(first), _broker_user(other)
    store = other.app.store
    store.execute("UPDATE systemuser SET systemuserid = ?, ownerid = ? WHERE systemuserid = ?",
                  (mine[0], mine[0], yours[0]))  # fmt: skip
    store.execute("UPDATE systemuser SET azureactivedirectoryobjectid = ? WHERE systemuserid = ?",
                  (mine[1], mine[0]))  # fmt: skip
    store.execute("UPDATE systemuserroles SET systemuserid = ? WHERE systemuserid = ?",
                  (mine[0], yours[0]))  # fmt: skip
    store.rights_version += 1
    return other


def _broker_user(world: Dataverse) -> tuple[str, str]:
    found = world.app.store.one(
        "SELECT systemuserid, azureactivedirectoryobjectid FROM systemuser"
        " WHERE fullname = '# broker'"
    )
    assert found is not None
    return found[0], found[1]


def change(world: Dataverse, grant: Grant) -> None:
    """Every value that the grant hides gets another one, and each table one more hidden row."""
    for table in TABLES:
        if table.stored_in != table.logical or table.abstract:
            continue
        kin = [table, *TABLES.derived(table.logical)]
        for name, column in {c.name: c for one in kin for c in one.columns}.items():
            if _may_change(column, kin) and not any(_shows(grant, one, name) for one in kin):
                _give_other(world, table, column, "1")
        hidden = _hidden(grant, table)
        if hidden is not None and len(kin) == 1:
            _change_hidden(world, grant, table, hidden)


def _may_change(column: Column, kin: list[Table]) -> bool:
    keys = {c for one in kin for key in one.keys for c in key.columns}
    return (
        column.writable
        and column.kind not in {"id", "state", "status", "guid", "file", "image"}
        and column.name not in _TOLD | keys
        and not column.name.startswith(_UNASKED_PREFIXES)
        and all(column.name != one.name_column for one in kin)
    )


def _shows(grant: Grant, table: Table, column: str) -> bool:
    rights = grant.rights(table.set_name)
    if rights is None:
        return False
    if rights.row_filter is not None and column in rights.row_filter.columns:
        return True
    return Operation.READ in rights.operations and (
        rights.readable is ALL or column in rights.readable
    )


def _hidden(grant: Grant, table: Table) -> str | None:
    """Which of its rows the grant's filter hides, where it has one."""
    rights = grant.rights(table.set_name)
    if rights is None or rights.row_filter is None:
        return None
    return f"NOT COALESCE({SQL[text(rights.row_filter.condition)]}, 0)"


def _change_hidden(world: Dataverse, grant: Grant, table: Table, hidden: str) -> None:
    rights = grant.rights(table.set_name)
    assert rights is not None
    assert rights.row_filter is not None
    for column in table.columns:
        if column.name not in rights.row_filter.columns and _may_change(column, [table]):
            _give_other(world, table, column, hidden)
    keys = {c for key in table.keys for c in key.columns}
    names = list(_stored(world, table))
    taken = ", ".join(_copied(table, name, keys) for name in names)
    world.app.store.execute(
        f"INSERT INTO {table.logical} ({', '.join(names)})"  # noqa: S608 - the schema's names
        f" SELECT {taken} FROM {table.logical} WHERE {hidden} LIMIT 1"
    )


def _stored(world: Dataverse, table: Table) -> Iterator[str]:
    for _, name, *_ in world.app.store.all(f"PRAGMA table_info({table.logical})"):
        yield name


def _copied(table: Table, name: str, keys: set[str]) -> str:
    if name == table.pk:
        return "'77777777-0000-4000-8000-777777777777'"
    return "NULL" if name in keys else name


def _give_other(world: Dataverse, table: Table, column: Column, where: str) -> None:
    name = column.name
    value = {
        "string": f"COALESCE({name}, '') || 'Zq'",
        "memo": f"COALESCE({name}, '') || 'Zq'",
        "bool": f"1 - COALESCE({name}, 0)",
        "datetime": "'2019-05-05T05:05:05Z'",
        "date": "'2019-05-05'",
        "choice": str(column.options[0][0]) if column.options else "1",
        "choices": "'1'",
        "lookup": _any_row(world, column),
    }.get(column.kind, f"COALESCE({name}, 0) + 17")
    world.app.store.execute(
        f"UPDATE {table.logical} SET {name} = {value} WHERE {where}"  # noqa: S608
    )


def _any_row(world: Dataverse, column: Column) -> str:
    if len(column.targets) != 1:
        return column.name
    table = TABLES[column.targets[0]]
    found = world.app.store.one(f"SELECT MAX({table.pk}) FROM {table.logical}")  # noqa: S608
    return f"'{found[0]}'" if found and found[0] else column.name
