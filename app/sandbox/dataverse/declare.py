"""The words in which `tables` and `system_tables` declare columns and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.schema import Column, Key, Kind, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

_USERS_AND_TEAMS = ("systemuser", "team")


def _schema_name(name: str) -> str:
    return name if name.startswith("new_") else name[:1].upper() + name[1:]


def column(
    name: str,
    kind: Kind,
    label: str,
    *,
    length: int = 0,
    options: tuple[tuple[int, str], ...] = (),
    writable: bool = True,
    required: bool = False,
) -> Column:
    return Column(
        name=name,
        kind=kind,
        label=label,
        schema_name=_schema_name(name),
        max_length=length,
        options=options,
        writable=writable,
        required=required,
    )


def text(name: str, label: str, length: int = 100, *, required: bool = False) -> Column:
    return column(name, "string", label, length=length, required=required)


def memo(name: str, label: str, length: int = 2000) -> Column:
    return column(name, "memo", label, length=length)


def computed(name: str, label: str, kind: Kind = "string") -> Column:
    return column(name, kind, label, length=1000 if kind == "string" else 0, writable=False)


def choice(name: str, label: str, *options: tuple[int, str]) -> Column:
    return column(name, "choice", label, options=options)


def lookup(
    name: str, label: str, *targets: str, schema_name: str = "", writable: bool = True
) -> Column:
    return Column(
        name=name,
        kind="lookup",
        label=label,
        schema_name=schema_name or _schema_name(name),
        targets=targets,
        writable=writable,
    )


def state(active: str = "Active", inactive: str = "Inactive") -> tuple[Column, ...]:
    return (
        column("statecode", "state", "Status", options=((0, active), (1, inactive))),
        column("statuscode", "status", "Status Reason", options=((1, active), (2, inactive))),
    )


def dates() -> tuple[Column, ...]:
    return (
        computed("createdon", "Created On", "datetime"),
        computed("modifiedon", "Modified On", "datetime"),
        computed("versionnumber", "Version Number", "bigint"),
    )


def ownership() -> tuple[Column, ...]:
    return (
        lookup("ownerid", "Owner", *_USERS_AND_TEAMS),
        lookup("owninguser", "Owning User", "systemuser", writable=False),
        lookup("owningteam", "Owning Team", "team", writable=False),
        lookup("owningbusinessunit", "Owning Business Unit", "businessunit", writable=False),
        lookup("createdby", "Created By", "systemuser", writable=False),
        lookup("modifiedby", "Modified By", "systemuser", writable=False),
        lookup("createdonbehalfby", "Created By (Delegate)", "systemuser", writable=False),
        lookup("modifiedonbehalfby", "Modified By (Delegate)", "systemuser", writable=False),
    )


def declare(
    logical: str,
    set_name: str,
    label: str,
    columns: Iterable[Column],
    *,
    type_code: int,
    name_column: str | None = "name",
    schema_name: str = "",
    privilege: str = "",
    pk: str = "",
    base: Table | None = None,
    abstract: bool = False,
    keys: tuple[Key, ...] = (),
    stored_in: str = "",
) -> Table:
    inherited = base.columns if base is not None else ()
    own = tuple(columns)
    pk = pk or (base.pk if base is not None and not base.abstract else f"{logical}id")
    if pk not in {c.name for c in (*inherited, *own)}:
        own = (column(pk, "id", label), *own)
    schema = schema_name or _schema_name(logical)
    return Table(
        logical=logical,
        schema_name=schema,
        set_name=set_name,
        pk=pk,
        name_column=name_column,
        label=label,
        type_code=type_code,
        columns=(*inherited, *own),
        privilege=privilege or schema,
        base=base.logical if base is not None else None,
        abstract=abstract,
        owned=any(c.name == "owninguser" for c in (*inherited, *own)),
        keys=keys,
        stored_in=stored_in or (base.stored_in if base and not base.abstract else logical),
        inherited=frozenset(c.name for c in inherited),
    )
