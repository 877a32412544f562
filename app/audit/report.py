"""Who read or wrote which table on which day. Pure: records in, rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from app.audit.query import accesses_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.audit.record import Record

READS: Final = frozenset({"read"})
NOBODY: Final = "(unknown)"
"""Stands for a caller that was never found out."""


class TableUse(NamedTuple):
    """Requests of one caller that touched one table on one UTC day."""

    day: str
    table: str
    caller: str
    application: str
    reads: int
    writes: int
    refused: int
    failed: int


def table_use(records: Iterable[Record]) -> list[TableUse]:
    """Sorted by day, table, caller and application.

    A request counts once for a table, as a write if any of its accesses writes there. One that
    was allowed and has no outcome counts too: Dataverse may have done it.
    """
    totals: dict[tuple[str, str, str, str], list[int]] = {}
    for record in records:
        wrote: dict[str, bool] = {}
        for access in accesses_of(record):
            writes = access.operation not in READS
            wrote[access.table] = wrote.get(access.table, False) or writes
        for table, writes in wrote.items():
            key = (record.time[:10], table, record.caller or NOBODY, record.application or "")
            counts = totals.setdefault(key, [0, 0, 0, 0])
            if record.decision == "refused":
                counts[2] += 1
            elif record.decision == "error":
                counts[3] += 1
            else:
                counts[1 if writes else 0] += 1
    return [TableUse(*key, *counts) for key, counts in sorted(totals.items())]
