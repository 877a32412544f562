"""What Dataverse sets itself: owners and dates, composed columns, unique keys, cascades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.failures import Failed
from app.sandbox.dataverse.store import type_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.schema import Table
    from app.sandbox.dataverse.store import Store


def defaults(table: Table, user: User, stamp: str) -> dict[str, Any]:
    names = table.by_name
    values: dict[str, Any] = {}
    if "createdon" in names:
        values |= {"createdon": stamp, "modifiedon": stamp}
    if "statecode" in names:
        values |= {"statecode": 0, "statuscode": 1}
    if table.owned:
        values |= {
            "ownerid": user.id,
            "ownerid__type": "systemuser",
            "owninguser": user.id,
            "owningbusinessunit": user.business_unit,
            "createdby": user.id,
            "modifiedby": user.id,
            "createdonbehalfby": user.acting,
        }
    if table.logical == "systemuser":
        values |= {"isdisabled": 0, "accessmode": 4}
    if table.logical in {"systemuser", "team", "role"}:
        values["businessunitid"] = user.business_unit
    if "activitytypecode" in names:
        values["activitytypecode"] = table.logical
    return values


def compute(
    store: Store, table: Table, values: dict[str, Any], *, before: Mapping[str, Any]
) -> None:
    """Set what follows from what was written: names, addresses, a status, a currency."""
    after = {**before, **values}
    if "statecode" in values and "statuscode" not in values:
        values["statuscode"] = 2 if values["statecode"] else 1
    if table.logical in {"contact", "systemuser"} and {"firstname", "lastname"} & set(values):
        names = (after.get("firstname"), after.get("lastname"))
        values["fullname"] = " ".join(n for n in names if n)
    elif table.logical == "systemuser" and not after.get("fullname"):
        values["fullname"] = f"# {after.get('applicationid') or ''}".strip()
    if table.logical == "account" and any(n.startswith("address1_") for n in values):
        place = " ".join(
            after[n]
            for n in ("address1_city", "address1_stateorprovince", "address1_postalcode")
            if after.get(n)
        )
        lines = (after.get("address1_line1"), place, after.get("address1_country"))
        values["address1_composite"] = "\r\n".join(line for line in lines if line) or None
    if "entityimage" in values:
        link = f"/Image/download.aspx?Entity={table.logical}&Attribute=entityimage&Id="
        values["entityimage_url"] = values["entityimage"] and link + str(after.get(table.pk))
    currency = "transactioncurrencyid"
    if currency in table.by_name and not after.get(currency):
        money = [c.name for c in table.columns if c.kind == "money"]
        if any(values.get(name) is not None for name in money):
            first = store.one(
                "SELECT transactioncurrencyid FROM transactioncurrency ORDER BY createdon"
            )
            values[currency] = first[0] if first else None


def check_keys(store: Store, table: Table, values: Mapping[str, Any], row_id: str) -> None:
    for key in table.keys:
        held = {name: values.get(name) for name in key.columns}
        if any(value is None for value in held.values()):
            continue
        condition = " AND ".join(f"{name} = :{name}" for name in held)
        other = store.one(
            f"SELECT 1 FROM {table.logical} "  # noqa: S608
            f"WHERE {condition} AND {table.pk} <> :id",
            {**held, "id": row_id},
        )
        if other is not None:
            labels = ", ".join(table.by_name[name].label for name in key.columns)
            raise Failed(
                412,
                "0x80060892",
                f"Entity Key {key.name} violated. A record with the same value for {labels} "
                "already exists. A duplicate record cannot be created. Select one or more "
                "unique values and try again.",
            )


def remove(store: Store, table: Table, row_id: str) -> None:
    """Take a row away with the children that cascade; elsewhere lookups are emptied."""
    for relation in store.schema.one_to_many:
        if relation.parent != table.logical:
            continue
        child = store.schema[relation.child]
        column = child.by_name[relation.lookup]
        condition = f"{column.name} = ?"
        if column.polymorphic:
            condition += f" AND {type_column(column.name)} = '{table.logical}'"
        found = store.all(
            f"SELECT {child.pk} FROM {child.logical} WHERE {condition}",  # noqa: S608
            (row_id,),
        )
        for (child_id,) in found:
            if relation.cascades:
                remove(store, child, child_id)
            else:
                empty: dict[str, Any] = {column.name: None}
                if column.polymorphic:
                    empty[type_column(column.name)] = None
                store.update(child, child_id, empty)
    for pairs in store.schema.many_to_many:
        for side, name in (
            (pairs.left, pairs.left_column),
            (pairs.right, pairs.right_column),
        ):
            if side == table.logical:
                store.execute(
                    f"DELETE FROM {pairs.intersect} WHERE {name} = ?",  # noqa: S608
                    (row_id,),
                )
    store.execute("DELETE FROM _files WHERE tbl = ? AND row = ?", (table.logical, row_id))
    store.delete(table, row_id)
