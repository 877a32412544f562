"""Each access and demand held against the grant; what is not covered comes back as missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.config.model import Operation
from app.odata.access import ALL, Access
from app.odata.demands import (
    Association,
    Call,
    Definitions,
    Opaque,
    SchemaWrite,
    Unfilterable,
    Unknown,
    UnknownCall,
    UnknownDefinition,
    WholeRows,
)
from app.policy.decision import Missing
from app.policy.grants import carries_rights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.odata.demands import Demand
    from app.policy.grants import Grant

_WRITES_COLUMNS = frozenset({Operation.CREATE, Operation.UPDATE})


_NOTHING: Mapping[str, frozenset[str]] = {}


def judge_accesses(
    grant: Grant, accesses: Iterable[Access], *, own: Mapping[str, frozenset[str]] = _NOTHING
) -> list[Missing]:
    """`own` are columns, by table, that may be read because the grant itself asks for them."""
    missing: list[Missing] = []
    for access in accesses:
        found = judge_access(grant, access, own.get(access.table))
        if found is not None:
            missing.append(found)
    return missing


def judge_access(grant: Grant, access: Access, own: frozenset[str] | None = None) -> Missing | None:
    """None where it is granted. Whole rows of a restricted table are granted here: what comes
    back is narrowed, and where it cannot be, there is a demand that says so.
    """
    rights = grant.rights(access.table)
    operation = access.operation
    if rights is None or operation not in rights.operations:
        return _operation(access.table, operation)
    columns = access.columns
    if columns is ALL:
        return None
    assert isinstance(columns, frozenset)
    if operation is Operation.READ:
        allowed = rights.readable
    elif operation in _WRITES_COLUMNS:
        allowed = rights.writable
    else:
        return None
    if allowed is ALL:
        return None
    assert isinstance(allowed, frozenset)
    beyond = columns - allowed
    if own is not None and operation is Operation.READ:
        beyond -= own
    if beyond:
        table = grant.schema.sets.get(access.table)
        if table is not None:
            beyond -= table.key_columns
    if not beyond:
        return None
    return _columns(access.table, operation, beyond)


def _columns(table: str, operation: Operation, names: frozenset[str]) -> Missing:
    word = (
        "columns not granted"
        if operation is Operation.READ
        else f"columns not granted to {operation}"
    )
    return Missing(
        f"{word} on {table}: {', '.join(sorted(names))}", Access(table, operation, names)
    )


def judge_demand(grant: Grant, demand: Demand) -> Missing | None:
    """None where the grant covers it."""
    if isinstance(demand, Unknown):
        return _unknown(grant, demand)
    if isinstance(demand, Call):
        granted = grant.actions if demand.is_action else grant.functions
        if (demand.name, demand.table) in granted:
            return None
        return _call(grant, demand.name, demand.table, is_action=demand.is_action)
    if isinstance(demand, Definitions):
        return _definitions(grant, demand)
    if isinstance(demand, Opaque):
        if grant.restricts_nothing:
            return None
        return Missing(
            f"{demand.construct} not granted: what it reads cannot be seen, so it needs read on"
            ' "*" and a grant that restricts nothing'
        )
    if isinstance(demand, WholeRows):
        rights = grant.rights(demand.table)
        if rights is None or rights.readable is ALL:
            return None
        return Missing(
            f"all columns not granted on {demand.table}: {demand.construct}",
            Access(demand.table, Operation.READ, ALL),
        )
    if isinstance(demand, Unfilterable):
        if grant.filter_of(demand.table) is None:
            return None
        return Missing(
            f"{demand.how} not granted on {demand.table}: its rows are filtered, and this cannot be"
        )
    if isinstance(demand, Association):
        return _association(grant, demand)
    assert isinstance(demand, SchemaWrite)
    return Missing("schema writes are never granted")


def _unknown(grant: Grant, demand: Unknown) -> Missing | None:
    """Refused in the words that the same construct gets for a name that exists."""
    name = _short(demand.name)
    if isinstance(demand, UnknownCall):
        return _call(grant, name, demand.table, is_action=demand.is_action)
    if isinstance(demand, UnknownDefinition):
        return None if grant.metadata == "all" else Missing(f"metadata not granted on {name}")
    if demand.table is None:
        return _operation(name, demand.operation)
    rights = grant.rights(demand.table)
    if rights is None or demand.operation not in rights.operations:
        return _operation(demand.table, demand.operation)
    return _columns(demand.table, demand.operation, frozenset({name}))


def _operation(table: str, operation: Operation) -> Missing:
    """On a table that is closed, no word tells which names it has, nor whether it is there."""
    return Missing(f"{operation} not granted on {table}", Access(table, operation))


def _call(grant: Grant, name: str, table: str | None, *, is_action: bool) -> Missing:
    if table is not None:
        rights = grant.rights(table)
        if rights is None or not rights.operations:
            return _operation(table, Operation.CREATE if is_action else Operation.READ)
    where = "" if table is None else f" on {table}"
    return Missing(f"{'action' if is_action else 'function'} not granted: {name}{where}")


def _short(name: str) -> str:
    return name if len(name) <= 80 else name[:80] + "…"


def _definitions(grant: Grant, demand: Definitions) -> Missing | None:
    if grant.metadata == "all":
        return None
    if demand.table is None:
        return Missing("metadata not granted: this needs metadata: all")
    table = grant.schema.tables.get(demand.table)
    rights = None if table is None or not table.entity_set else grant.rights(table.entity_set)
    if grant.metadata == "granted" and rights is not None and rights.operations:
        return None
    return Missing(f"metadata not granted on {demand.table}")


def _association(grant: Grant, demand: Association) -> Missing | None:
    """`"*"` joins no tables that carry rights: both must be named with append_to."""
    for name in demand.tables:
        table = grant.schema.sets.get(name)
        if table is None or not carries_rights(table):
            return None
    for name in demand.tables:
        named = grant.tables.get(name)
        if named is None or Operation.APPEND_TO not in named.operations:
            return Missing(f"append_to not granted on {name}", Access(name, Operation.APPEND_TO))
    return None
