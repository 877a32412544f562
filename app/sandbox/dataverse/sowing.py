"""How seeded rows come about: recognisable ids, one clock, the same random numbers."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Table
    from app.sandbox.dataverse.store import Store

ORGANIZATION_ID = "0f2b5d3e-6f1c-4f0a-9a54-2d1c5b7e9f10"
TENANT_ID = "aaaaaaaa-0000-0000-0000-000000000001"
ROOT_BUSINESS_UNIT = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbb1"
EURO = "cccccccc-cccc-cccc-cccc-ccccccccccc1"
SERVICE_TEAM = "dddddddd-dddd-dddd-dddd-ddddddddddd1"
FIRST_USER = "44444444-4444-4444-4444-444444444441"
"""The System Administrator, who owns what is seeded."""


def numbered(digit: str, number: int) -> str:
    """A GUID that a person recognises: 11111111-1111-1111-1111-111111111112 is account 2."""
    head = "-".join((digit * 8, digit * 4, digit * 4, digit * 4))
    tail = f"{digit * 11}{number}" if number < 10 else f"{digit * 8}f{number:03d}"
    return f"{head}-{tail}"


class Sower:
    def __init__(self, store: Store, start: datetime) -> None:
        self.store = store
        self.random = random.Random(20_240_229)
        self.now = start

    def put(self, logical: str, **values: Any) -> None:
        table: Table = self.store.schema[logical]
        self.now += timedelta(minutes=7)
        stamp = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        row: dict[str, Any] = {}
        names = table.by_name
        if "createdon" in names:
            row |= {"createdon": stamp, "modifiedon": stamp}
        if "statecode" in names:
            row |= {"statecode": 0, "statuscode": 1}
        if table.owned:
            row |= {
                "ownerid": FIRST_USER,
                "ownerid__type": "systemuser",
                "owninguser": FIRST_USER,
                "owningbusinessunit": ROOT_BUSINESS_UNIT,
                "createdby": FIRST_USER,
                "modifiedby": FIRST_USER,
            }
        if "activitytypecode" in names:
            row["activitytypecode"] = logical
        self.store.insert(table, row | values)

    def money(self, low: int, high: int) -> float:
        return self.random.randrange(low * 100, high * 100) / 100
