"""Which privileges of Dataverse's the grants of an application need. Pure.

A grant speaks of tables and operations, a security role of privileges: one for each kind of
access and table, in a depth.

    read ► Read   create ► Create   update ► Write   delete ► Delete   append_to ► AppendTo
    assign ► Assign   a lookup that may be written ► Append   a row filter ► Read, for its look-ups
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from app.odata.access import ALL, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from app.policy.grants import Grant, TableRights
    from app.schema.model import Schema, Table

DEPTHS: Final = ("Basic", "Local", "Deep", "Global")
"""From the rows of the user himself to those of the whole organization."""

KINDS: Final[Mapping[Operation, str]] = {
    Operation.READ: "Read",
    Operation.CREATE: "Create",
    Operation.UPDATE: "Write",
    Operation.DELETE: "Delete",
    Operation.APPEND_TO: "AppendTo",
    Operation.ASSIGN: "Assign",
}

SET_BY_DATAVERSE: Final = frozenset(
    {
        "createdby", "createdonbehalfby", "modifiedby", "modifiedonbehalfby", "ownerid",
        "owningbusinessunit", "owningteam", "owninguser", "organizationid",
    }
)  # fmt: skip
"""Lookups that no caller appends: who made a row and whose it is."""

ACT_ON_BEHALF: Final = "prvActOnBehalfOfAnotherUser"
BYPASSES: Final[Mapping[str, str]] = {
    "mscrm.bypasscustompluginexecution": "prvBypassCustomPlugins",
    "mscrm.bypassbusinesslogicexecution": "prvBypassCustomBusinessLogic",
    "mscrm.bypassbusinesslogicexecutionstepids": "prvBypassCustomBusinessLogic",
}
"""What Dataverse asks for beside a header that a grant lets through (dataverse-reference 3.5)."""

SCHEMA_READS: Final = ("prvReadEntity", "prvReadAttribute", "prvReadRelationship")
"""What the broker reads a live schema with. Which of them an environment asks for is not
documented in one place; all of them read the schema only.
"""

NEEDS_NOTHING: Final = frozenset({"WhoAmI", "RetrieveVersion", "RetrieveCurrentOrganization"})
COUNTED_BY_TABLE: Final = frozenset(
    {"CreateMultiple", "UpdateMultiple", "UpsertMultiple", "DeleteMultiple"}
    | {"RetrieveTotalRecordCount"}
)
"""Judged as accesses to tables, so that their privileges are those of the tables."""


@dataclass(frozen=True, slots=True)
class Privilege:
    """`id` is None where only the name is known; `depths` are those it may be given in."""

    name: str
    id: str | None = None
    depths: tuple[str, ...] = ("Global",)


@dataclass(frozen=True, slots=True)
class TablePrivileges:
    """One table's, as EntityDefinitions tells of them; by kind: Read, Create, …"""

    table: str
    entity_set: str | None
    by_kind: Mapping[str, Privilege] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Need:
    privilege: Privilege
    depth: str
    callers: tuple[str, ...]
    named: bool
    """False where only a `"*"` asks for it: it is for whichever tables the role opens."""
    entity_set: str | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    by_name: Mapping[str, Need]
    unseen: tuple[str, ...]
    """Functions and actions: what they reach is not for the broker to see."""
    untold: tuple[str, ...]
    """Callers of whom the grants do not tell all: they hold the token, or are not held to rules."""


def needs_of(grants: Iterable[Grant], tables: Mapping[str, TablePrivileges]) -> Needs:
    """`tables` by logical name. A table without a privilege of a kind needs none of that kind."""
    found: dict[str, Need] = {}
    unseen: list[str] = []
    untold: list[str] = []
    for grant in grants:
        for need in _of_grant(grant, tables):
            known = found.get(need.privilege.name)
            found[need.privilege.name] = need if known is None else _both(known, need)
        unseen += [
            name if table is None else f"{name} on {table}"
            for name, table in sorted(
                (*grant.functions, *grant.actions), key=lambda n: (n[0], n[1] or "")
            )
            if name not in NEEDS_NOTHING | COUNTED_BY_TABLE
        ]
        if grant.issue_token or not grant.enforce:
            untold.append(grant.caller)
    return Needs(
        by_name=dict(sorted(found.items())),
        unseen=tuple(dict.fromkeys(unseen)),
        untold=tuple(dict.fromkeys(untold)),
    )


def _both(one: Need, other: Need) -> Need:
    return replace(
        one,
        depth=max(one.depth, other.depth, key=DEPTHS.index),
        callers=tuple(dict.fromkeys((*one.callers, *other.callers))),
        named=one.named or other.named,
    )


def _of_grant(grant: Grant, tables: Mapping[str, TablePrivileges]) -> Iterator[Need]:
    callers = (grant.caller,)
    for entity_set, table in grant.schema.sets.items():
        rights = grant.rights(entity_set)
        known = tables.get(table.name)
        if rights is None or known is None:
            continue
        named = entity_set in grant.tables
        for kind in sorted(_kinds(rights, table, grant)):
            privilege = known.by_kind.get(kind)
            if privilege is not None:
                depth = _depth(kind, privilege, rights)
                yield Need(privilege, depth, callers, named, entity_set)
        if _writes_money(rights, table):
            for kind in ("Read", "AppendTo"):
                currency = tables.get("transactioncurrency")
                privilege = None if currency is None else currency.by_kind.get(kind)
                if privilege is not None:
                    depth = _depth(kind, privilege, rights)
                    yield Need(privilege, depth, callers, named, "transactioncurrencies")
    beside = [ACT_ON_BEHALF] if grant.impersonate_as or grant.caller_ids else []
    beside += [BYPASSES[header] for header in grant.headers if header in BYPASSES]
    for name in beside:
        yield Need(Privilege(name), "Global", callers, named=True)


def _kinds(rights: TableRights, table: Table, grant: Grant) -> set[str]:
    kinds = {KINDS[operation] for operation in rights.operations}
    if rights.row_filter is not None and kinds - {"Create"}:
        kinds.add("Read")
    if kinds & {"Create", "Write"} and _written_lookups(rights, table):
        kinds.add("Append")
    if "Create" in kinds and _is_nested_beside(table, grant):
        kinds.add("AppendTo")
    return kinds


def _written_lookups(rights: TableRights, table: Table) -> frozenset[str]:
    lookups = {column for column, found in table.columns.items() if found.is_lookup}
    lookups -= SET_BY_DATAVERSE
    if rights.writable is ALL:
        return frozenset(lookups)
    assert isinstance(rights.writable, frozenset)
    return rights.writable & lookups


def _is_nested_beside(table: Table, grant: Grant) -> bool:
    """Whether a deep insert may link a new row of another table to a new row of this one.

    Creating a row stands for append_to on it in a policy; Dataverse still asks for AppendTo.
    """
    for entity_set, other in grant.schema.sets.items():
        rights = grant.tables.get(entity_set)
        if rights is None or Operation.CREATE not in rights.operations:
            continue
        lookups = _written_lookups(rights, other)
        if any(
            navigation.column in lookups and _leads_to(navigation.target, table, grant.schema)
            for navigation in other.navigations.values()
            if not navigation.collection
        ):
            return True
    return False


def _leads_to(target: str, table: Table, schema: Schema) -> bool:
    return target == table.name or schema.derives(table.name, target)


def _writes_money(rights: TableRights, table: Table) -> bool:
    """Money has a currency: Dataverse sets it beside, as the user's own act."""
    if not rights.operations & {Operation.CREATE, Operation.UPDATE}:
        return False
    if "transactioncurrencyid" not in table.columns:
        return False
    money = {c for c, found in table.columns.items() if found.type == "Edm.Decimal"}
    if rights.writable is ALL:
        return bool(money)
    assert isinstance(rights.writable, frozenset)
    return bool(rights.writable & money)


def _depth(kind: str, privilege: Privilege, rights: TableRights) -> str:
    """The least that suffices: new rows are the user's own unless he may give them away; those
    that are there already are anybody's.
    """
    own = kind == "Create" and Operation.ASSIGN not in rights.operations
    return "Basic" if own and "Basic" in privilege.depths else "Global"
