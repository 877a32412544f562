"""The index of an audit file: for each block of rows, which of them have which property.

A B-tree for each filter would cost every record ten insertions. Records come in the order of
their rows and are asked for from the newest down, so a block of rows is indexed at once, when
it is full: one small set of rows for each term ("caller=…") that occurs in it. Filters that
are asked together are sets that are cut. What is newer than the last full block is read.
"""

from __future__ import annotations

import hashlib
from array import array
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from app.audit.query import Query, accesses_of
from app.audit.record import OUTCOME_PREFIX, Record, decode, is_record, record_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_BITS: Final = 12
BLOCK_ROWS: Final = 1 << BLOCK_BITS

ERA_BITS: Final = 18
"""Keys come in random order. Kept apart by era, only the pages of the present one are written."""

ANY: Final = "record"
"""The term that every finished record has."""

_BITMAP_BYTES: Final = BLOCK_ROWS // 8
_NO_TIME: Final = 0xFFFFFFFF


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows of one block add to the index.

    `times` holds, for each place, the record's milliseconds since `first_time` (epoch
    milliseconds); a place without a finished record holds the largest value.
    """

    number: int
    first_time: int
    last_time: int
    times: bytes
    postings: dict[str, bytes]
    keys: list[tuple[int, int]]
    opened: dict[str, int]
    closed: list[str]


def block_of(row: int) -> int:
    return row >> BLOCK_BITS


def era_of(row: int) -> int:
    return row >> ERA_BITS


def block_rows(number: int) -> tuple[int, int]:
    """The first and the last row of a block."""
    return number << BLOCK_BITS, ((number + 1) << BLOCK_BITS) - 1


def key_of(text: str) -> int:
    """64 bits that stand for an id; as SQL knows integers, with a sign."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def terms_of(record: Record) -> Iterator[str]:
    """What a record can be found by. A term may come twice."""
    yield ANY
    yield f"action={record.action}"
    yield f"decision={record.decision}"
    if record.caller is not None:
        yield f"caller={record.caller}"
    if record.environment is not None:
        yield f"environment={record.environment}"
    if record.application is not None:
        yield f"application={record.application}"
    if record.status is not None:
        yield f"status={record.status}"
    for access in accesses_of(record):
        yield f"table={access.table}"
        yield f"operation={access.operation}"
        yield f"access={access.operation} {access.table}"


def terms_asked(query: Query) -> list[str]:
    """The terms that every answer has; always one at least."""
    terms = [
        f"{name}={value}"
        for name in ("action", "decision", "caller", "environment", "application", "status")
        if (value := getattr(query, name)) is not None
    ]
    if query.table is not None and query.operation is not None:
        terms.append(f"access={query.operation} {query.table}")
    elif query.table is not None:
        terms.append(f"table={query.table}")
    elif query.operation is not None:
        terms.append(f"operation={query.operation}")
    return terms or [ANY]


def build(number: int, rows: Iterable[tuple[int, bytes]]) -> Block:
    """Index a block's entries, given as row and body in the order of rows."""
    places: dict[str, list[int]] = {}
    moments: list[tuple[int, int]] = []
    keys: list[tuple[int, int]] = []
    opened: dict[str, int] = {}
    closed: list[str] = []
    first_row, _ = block_rows(number)
    for row, body in rows:
        if not is_record(body):
            continue
        if not body.startswith(OUTCOME_PREFIX):
            opened[record_id(body)] = row
            continue
        record = decode(body)
        if opened.pop(record.id, None) is None:
            closed.append(record.id)
        place = row - first_row
        moments.append((place, epoch_ms(record.time)))
        for term in set(terms_of(record)):
            places.setdefault(term, []).append(place)
        keys.append((key_of(record.id), row))
        if record.request_id is not None and record.request_id != record.id:
            keys.append((key_of(record.request_id), row))
    first_time = min((moment for _, moment in moments), default=0)
    times = array("I", [_NO_TIME]) * BLOCK_ROWS
    for place, moment in moments:
        times[place] = min(moment - first_time, _NO_TIME - 1)
    return Block(
        number=number,
        first_time=first_time,
        last_time=max((moment for _, moment in moments), default=0),
        times=times.tobytes(),
        postings={term: pack(found) for term, found in places.items()},
        keys=keys,
        opened=opened,
        closed=closed,
    )


def pack(places: list[int]) -> bytes:
    """A set of places: their numbers, or a bitmap where that is shorter."""
    if 2 * len(places) < _BITMAP_BYTES:
        return array("H", places).tobytes()
    bits = bytearray(_BITMAP_BYTES)
    for place in places:
        bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def unpack(packed: bytes) -> int:
    """A set of places as an integer, bit by bit."""
    if len(packed) == _BITMAP_BYTES:
        return int.from_bytes(packed, "little")
    bits = 0
    for place in array("H", packed):
        bits |= 1 << place
    return bits


def rows_down(number: int, sets: Iterable[bytes], below: int) -> Iterator[int]:
    """The rows of a block that are in all sets, the highest first; only those under `below`."""
    first, last = block_rows(number)
    bits = (1 << (min(below, last + 1) - first)) - 1 if below > first else 0
    for packed in sets:
        bits &= unpack(packed)
    while bits:
        place = bits.bit_length() - 1
        yield first + place
        bits ^= 1 << place


def within(
    rows: Iterable[int], times: bytes, first_time: int, since_ms: int | None, until_ms: int | None
) -> Iterator[int]:
    """The rows whose time may lie in a span of epoch milliseconds, both ends included."""
    offsets = array("I", times)
    low = 0 if since_ms is None else since_ms - first_time
    high = _NO_TIME if until_ms is None else until_ms - first_time
    return (row for row in rows if low <= offsets[row & (BLOCK_ROWS - 1)] <= high)


def epoch_ms(time: str) -> int:
    """A record's time in milliseconds since 1970; 0 for what is no time."""
    try:
        return int(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError:
        return 0
