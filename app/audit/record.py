"""What is kept of a request: who, what, as whom, how it was decided and how it ended.

Never a value, a body or a token. A record goes to the journal twice where something is sent:
as an *intent* before, and as an *outcome* after, which repeats it and adds how it ended. What
is refused, and an answer that is whole before its first byte leaves, is an outcome only.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.structs import asdict, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.odata.access import Access

Phase = Literal["intent", "outcome"]
Action = Literal["token", "proxy", "admin"]
Decision = Literal["allowed", "refused", "error"]
Outcome = Literal[
    "completed",  # the answer left whole: a refusal and Dataverse's own errors too
    "caller_gone",  # the caller hung up in mid-answer
    "upstream_failed",  # Dataverse was not reached, or broke off
    "unrecorded",  # the record could not be kept in mid-answer: the connection was cut
    "stopped",  # the broker was told to stop
    "failed",  # a fault of the broker's own
    "open",  # only in answers: an intent whose request is still under way
    "interrupted",  # only in answers: an intent whose outcome never came (a kill, a power cut)
]

MARK: Final = "…"
"""Stands where text was cut, or where a character was taken out."""

TEXT_MAX: Final = 512
TARGET_MAX: Final = 2048
NAME_MAX: Final = 128
ITEMS_MAX: Final = 1000
"""Accesses of a record, columns of an access, parts of a batch (Dataverse takes 1,000)."""

_SMALL_BYTES: Final = 2048
"""A record this small needs no cutting, whatever stands in it."""

_MARK_BYTES: Final = MARK.encode()

# Looked for as numbers: that is several times faster than as bytes of length one.
BACKSLASH: Final = 0x5C
_DEL: Final = 0x7F


class TableAccess(msgspec.Struct, frozen=True, kw_only=True):
    """One operation on one table; `columns` is null for all of them."""

    table: str
    operation: str
    columns: tuple[str, ...] | None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """How the caller proved who it is: a kind, and the key's id or the token's subject."""

    kind: str
    subject: str


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request of a batch."""

    method: str
    target: str
    accesses: tuple[TableAccess, ...] = ()
    decision: Decision
    status: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. `time` is when it arrived, the same in both phases."""

    # `phase` and `id` come first, so that a reader finds them at a fixed place of the bytes.
    phase: Phase
    id: str
    time: str
    action: Action
    decision: Decision
    outcome: Outcome | None = None
    reason: str | None = None
    caller: str | None = None
    identity: Identity | None = None
    client_address: str | None = None
    environment: str | None = None
    application: str | None = None
    method: str | None = None
    target: str | None = None
    accesses: tuple[TableAccess, ...] = ()
    status: int | None = None
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    duration_ms: float | None = None
    upstream_ms: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    token_fingerprint: str | None = None
    parts: tuple[Part, ...] = ()


RECORD_FIELDS: Final = tuple(field for field in Record.__struct_fields__ if field != "phase")
"""The documented fields, in order; docs/audit.md lists them."""

INTENT_PREFIX: Final = b'{"phase":"intent","id":"'
OUTCOME_PREFIX: Final = b'{"phase":"outcome","id":"'

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def encode(record: Record) -> bytes:
    """The canonical bytes: what is hashed, stored and exported.

    The one place where records become bytes, so text is cleaned here, whoever wrote it.
    """
    try:
        body = _encode(record)
    except UnicodeEncodeError:  # half a surrogate pair
        return _encode(_cleaned(record))
    # JSON escapes the control characters of ASCII, DEL excepted: most records pass on one look.
    if (
        len(body) <= _SMALL_BYTES
        and BACKSLASH not in body
        and _DEL not in body
        and (body.isascii() or _only_marks(body))
    ):
        return body
    return _encode(_cleaned(record))


def _only_marks(body: bytes) -> bool:
    """Whether all that is not ASCII are marks."""
    # They stand together, in the target: only what is between the first and the last is copied.
    first, last = body.find(_MARK_BYTES[0]), body.rfind(_MARK_BYTES[-1]) + 1
    return (
        body[:first].isascii()
        and body[last:].isascii()
        and body[first:last].replace(_MARK_BYTES, b"").isascii()
    )


def decode(body: bytes) -> Record:
    """Raises `ValueError` for bytes that are no record."""
    return _decode(body)


def is_record(body: bytes) -> bool:
    """Whether an entry of a chain is a record, and not an opening or a checkpoint."""
    return body.startswith((INTENT_PREFIX, OUTCOME_PREFIX))


def record_id(body: bytes) -> str:
    """The id of a record's bytes, without reading the rest."""
    prefix = INTENT_PREFIX if body.startswith(INTENT_PREFIX) else OUTCOME_PREFIX
    return body[len(prefix) : len(prefix) + 36].decode("ascii", "replace")


def record_time(body: bytes) -> str:
    """The time of a record's bytes, without reading the rest."""
    return body[body.find(b'"time":"') + 8 :][:27].decode("ascii", "replace")


def table_accesses(accesses: Iterable[Access]) -> tuple[TableAccess, ...]:
    """Accesses as they are recorded: in a fixed order, ALL as null."""
    recorded = [
        TableAccess(
            table=access.table,
            operation=access.operation.value,
            columns=tuple(sorted(access.columns))
            if isinstance(access.columns, frozenset)
            else None,
        )
        for access in accesses
    ]
    if len(recorded) > 1:
        recorded.sort(key=lambda access: (access.table, access.operation, access.columns or ()))
    return tuple(recorded)


def timestamp(moment: datetime) -> str:
    """RFC 3339, UTC, microseconds, with a Z: sorts as text."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    minute = _minute(moment.year, moment.month, moment.day, moment.hour * 60 + moment.minute)
    return f"{minute}{moment.second:02d}.{moment.microsecond:06d}Z"


@lru_cache(maxsize=64)
def _minute(year: int, month: int, day: int, minute: int) -> str:
    # Thousands of records are of one minute, and isoformat() is dear.
    return f"{year:04d}-{month:02d}-{day:02d}T{minute // 60:02d}:{minute % 60:02d}:"


def clean(text: str, most: int = TEXT_MAX) -> str:
    """Text that does no harm on a terminal, in a log line or in a spreadsheet's cell.

    Control characters, line and paragraph separators, direction marks and broken surrogates
    become the mark; what is longer than `most` characters ends in one.
    """
    if len(text) > most:
        text = text[: most - 1] + MARK
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else MARK for c in text)


def _cleaned(record: Record) -> Record:
    changes: dict[str, Any] = {}
    for name, value in asdict(record).items():
        if isinstance(value, str):
            changes[name] = clean(value, TARGET_MAX if name == "target" else TEXT_MAX)
    if record.identity is not None:
        changes["identity"] = Identity(
            kind=clean(record.identity.kind, NAME_MAX), subject=clean(record.identity.subject)
        )
    changes["accesses"] = _cleaned_accesses(record.accesses)
    changes["parts"] = tuple(
        Part(
            method=clean(part.method, NAME_MAX),
            target=clean(part.target, TARGET_MAX),
            accesses=_cleaned_accesses(part.accesses),
            decision=part.decision,
            status=part.status,
        )
        for part in record.parts[:ITEMS_MAX]
    )
    return replace(record, **changes)


def _cleaned_accesses(accesses: tuple[TableAccess, ...]) -> tuple[TableAccess, ...]:
    return tuple(
        TableAccess(
            table=clean(access.table, NAME_MAX),
            operation=clean(access.operation, NAME_MAX),
            columns=None if access.columns is None else _cleaned_names(access.columns),
        )
        for access in accesses[:ITEMS_MAX]
    )


def _cleaned_names(names: tuple[str, ...]) -> tuple[str, ...]:
    kept = tuple(clean(name, NAME_MAX) for name in names[:ITEMS_MAX])
    return kept if len(names) <= ITEMS_MAX else (*kept, MARK)


class RecordIds:
    """UUIDv7 (RFC 9562, 5.7): ids of one process rise, also within a millisecond.

    Not for use from several threads at once.
    """

    def __init__(self) -> None:
        self._ms = 0
        self._prefix = ""
        self._tail = 0
        self._chance = b""
        self._at = 0

    def next(self, now: datetime) -> str:
        """A fresh id. A clock that goes backwards does not bring older ids."""
        ms = int(now.timestamp() * 1000)
        if ms > self._ms:
            self._begin(ms)
            # The top bit stays free, so that counting up within a millisecond has room.
            self._tail = int.from_bytes(self._random(10), "big") >> 7
        else:
            self._tail += 1
            if self._tail >> 74:
                self._begin(self._ms + 1)
                self._tail = 0
        high, low = self._tail >> 62, self._tail & ((1 << 62) - 1)
        # The variant's two bits are 10.
        return f"{self._prefix}{high:03x}-{0x8000 | low >> 48:04x}-{low & 0xFFFFFFFFFFFF:012x}"

    def _begin(self, ms: int) -> None:
        self._ms = ms
        self._prefix = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7"

    def _random(self, length: int) -> bytes:
        # A call of the system costs more than all the rest, and hands the GIL to another thread.
        if self._at + length > len(self._chance):
            self._chance, self._at = os.urandom(2560), 0
        self._at += length
        return self._chance[self._at - length : self._at]
