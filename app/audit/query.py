"""What an auditor may ask, and which records answer it."""

from __future__ import annotations

import base64
import hashlib
import heapq
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec.structs import replace

from app.audit.record import Decision, Record, TableAccess, timestamp
from app.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

LIMIT_MAX: Final = 1000

INTERRUPTED_AFTER: Final = timedelta(hours=1)
"""No request takes this long: an intent without an outcome is not under way any more."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Every filter that is set must hold. Times are aware; `since` is included, `until` is not.

    `table` and `operation` together mean one access that is both.
    """

    caller: str | None = None
    environment: str | None = None
    application: str | None = None
    action: str | None = None
    table: str | None = None
    operation: str | None = None
    decision: Decision | None = None
    status: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    request_id: str | None = None
    cursor: str | None = None
    limit: int = 100


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Records, newest first, in the order in which their outcomes became durable.

    `cursor` leads to the next page; None on the last. A walk shows every record whose outcome
    was there when it began. `unindexed` is how many entries the index has yet to take in; they
    were read one by one, so that the answer is whole all the same.
    """

    records: tuple[Record, ...]
    cursor: str | None
    unindexed: int


def accesses_of(record: Record) -> Iterator[TableAccess]:
    """A record's accesses, those of a batch's parts too."""
    yield from record.accesses
    for part in record.parts:
        yield from part.accesses


def matches(query: Query, record: Record) -> bool:
    """Whether a record answers a query, its cursor and limit aside."""
    return (
        (query.caller is None or query.caller == record.caller)
        and (query.environment is None or query.environment == record.environment)
        and (query.application is None or query.application == record.application)
        and (query.action is None or query.action == record.action)
        and (query.decision is None or query.decision == record.decision)
        and (query.status is None or query.status == record.status)
        and (query.request_id is None or query.request_id == record.request_id)
        # Timestamps of one form and zone sort as text.
        and (query.since is None or timestamp(query.since) <= record.time)
        and (query.until is None or record.time < timestamp(query.until))
        and (
            (query.table is None and query.operation is None)
            or any(
                query.table in {None, access.table} and query.operation in {None, access.operation}
                for access in accesses_of(record)
            )
        )
    )


def unfinished(intent: Record, now: datetime) -> Record:
    """An intent that has no outcome, as it is answered."""
    late = intent.time < timestamp(now - INTERRUPTED_AFTER)
    return replace(intent, outcome="interrupted" if late else "open")


def cursor_after(place: bytes, query: Query) -> str:
    """A place in the walk through one query's answers; what the place says is the store's own."""
    return base64.urlsafe_b64encode(_digest(query) + place).decode().rstrip("=")


def place_of_cursor(query: Query, length: int) -> bytes | None:
    """The place that the next page begins after; None for the first page.

    Raises `Unreadable` for a cursor of another query, or of none.
    """
    if query.cursor is None:
        return None
    try:
        raw = base64.b64decode(query.cursor + "=" * (-len(query.cursor) % 4), b"-_", validate=True)
    except ValueError as error:
        raise Unreadable("cursor-invalid", "cursor: not one that this broker gave out") from error
    if len(raw) != 8 + length or raw[:8] != _digest(query):
        raise Unreadable(
            "cursor-invalid", "cursor: belongs to other filters; begin again without one"
        )
    return raw[8:]


def _digest(query: Query) -> bytes:
    filters = replace(query, cursor=None, limit=0)
    return hashlib.blake2b(msgspec.json.encode(filters), digest_size=8).digest()


def newest_first(*walks: Iterable[tuple[T, Record]]) -> Iterator[tuple[T, Record]]:
    """Merge walks that each go down by place."""
    return heapq.merge(*walks, key=itemgetter(0), reverse=True)
