"""The smallest grant that would have allowed what was seen. Pure.

What the record does not tell stays as it is today: row filters, impersonation, headers, limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from app.config.model import BoundName, Grant, Operation, TableRule
from app.odata.access import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.odata.access import Access
    from app.odata.demands import Call

UNKNOWN: Final = "<unknown>"
"""How the record writes a name that the schema did not know."""

_WRITES_COLUMNS: Final = frozenset({Operation.CREATE, Operation.UPDATE})
_METADATA: Final = ("none", "granted", "all")

Metadata = Literal["none", "granted", "all"]


@dataclass(frozen=True, slots=True)
class Use:
    """What one request needed. `holds_token`: it was given the raw token."""

    accesses: tuple[Access, ...] = ()
    calls: tuple[Call, ...] = ()
    metadata: Metadata = "none"
    holds_token: bool = False


@dataclass(slots=True)
class _Table:
    """What was done with one table."""

    operations: set[Operation] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    reads_all: bool = False
    writes_all: bool = False

    def add(self, access: Access) -> None:
        self.operations.add(access.operation)
        columns = access.columns
        if access.operation in _WRITES_COLUMNS:
            self.writes_all |= columns is ALL
            self.written |= columns if isinstance(columns, frozenset) else set()
        elif access.operation is Operation.READ:
            self.reads_all |= columns is ALL
            self.read |= columns if isinstance(columns, frozenset) else set()


def suggest(today: Grant, uses: Iterable[Use]) -> Grant:
    """In the order of today's grant, what is new behind it; enforced."""
    tables: dict[str, _Table] = {}
    calls: set[Call] = set()
    metadata: Metadata = "none"
    holds_token = False
    for use in uses:
        for access in use.accesses:
            if access.table != UNKNOWN:
                tables.setdefault(access.table, _Table()).add(access)
        calls.update(call for call in use.calls if call.name != UNKNOWN)
        metadata = max(metadata, use.metadata, key=_METADATA.index)
        holds_token |= use.holds_token
    return today.model_copy(
        update={
            "enforce": True,
            "issue_token": holds_token,
            "tables": {
                name: _rule(tables[name], today.tables.get(name))
                for name in _ordered(tables, tuple(today.tables))
            },
            "functions": _names(calls, today.functions, actions=False),
            "actions": _names(calls, today.actions, actions=True),
            "metadata": metadata,
        }
    )


def written(grant: Grant) -> dict[str, Any]:
    """As a configuration would say it, without what goes without saying."""
    found: dict[str, Any] = grant.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return found


def _rule(seen: _Table, today: TableRule | None) -> TableRule:
    columns = _columns(
        seen.read, everything=seen.reads_all, today=None if today is None else today.columns
    )
    writes = bool(_WRITES_COLUMNS & seen.operations)
    writable: tuple[str, ...] | None = None
    if writes:
        was = None if today is None else (today.writable_columns or today.columns)
        writable = _columns(seen.written, everything=seen.writes_all, today=was)
        if writable is None:
            # Left out it means the readable ones, so that these have to be all as well.
            columns = None
    if writable is not None and columns is not None and set(writable) == set(columns):
        writable = None
    return TableRule(
        operations=tuple(each for each in Operation if each in seen.operations),
        columns=columns,
        writable_columns=writable,
        row_filter=None if today is None else today.row_filter,
    )


def _columns(
    seen: set[str], *, everything: bool, today: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """None for all of them."""
    if everything:
        # Asked for without a $select: the broker narrows that to what is granted, so that today's
        # columns were all that came back.
        return None if today is None else _ordered({*today, *seen}, today)
    return _ordered({name for name in seen if name != UNKNOWN}, today or ())


def _ordered(names: Iterable[str], first: Sequence[str]) -> tuple[str, ...]:
    found = set(names)
    return (*(n for n in first if n in found), *sorted(found - set(first)))


def _names(
    calls: set[Call], today: tuple[str | BoundName, ...], *, actions: bool
) -> tuple[str | BoundName, ...]:
    wanted = {
        call.name if call.table is None else BoundName(name=call.name, table=call.table)
        for call in calls
        if call.is_action is actions
    }
    rest = sorted(wanted - set(today), key=str)
    return (*(name for name in today if name in wanted), *rest)
