"""The index of an audit file: for each block of rows, which of them have which property.

A B-tree for each filter would cost every record ten insertions. Records come in the order of
their rows and are asked for from the newest down, so a block of rows is indexed at once, when
it is full: one small set of rows for each term ("caller=…") that occurs in it. Filters that
are asked together are sets that are cut. What is newer than the last full block is read.
"""

from __future__ import annotations

import zlib
from array import array
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from app.audit.record import OUTCOME_PREFIX, is_record, record_id, record_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.audit.query import Query

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

    `postings` are places in the block, see `pack`. `times` holds, for each place, the
    record's milliseconds since `first_time` (epoch
    milliseconds); a place without a finished record holds the largest value. `last_time` covers
    the intents too.
    """

    number: int
    first_time: int
    last_time: int
    times: bytes
    postings: dict[str, list[int]]
    keys: list[tuple[int, int]]
    opened: dict[str, int]
    closed: list[str]


class _Access(msgspec.Struct, frozen=True):
    table: str
    operation: str


class _Part(msgspec.Struct, frozen=True):
    accesses: tuple[_Access, ...] = ()


class Indexed(msgspec.Struct, frozen=True):
    """Of a record's bytes, only what an index wants to know."""

    phase: str
    id: str
    time: str
    action: str
    decision: str
    caller: str | None = None
    environment: str | None = None
    application: str | None = None
    accesses: tuple[_Access, ...] = ()
    status: int | None = None
    request_id: str | None = None
    parts: tuple[_Part, ...] = ()


class Shape(NamedTuple):
    """What many records of a block have in common."""

    action: str
    decision: str
    caller: str | None
    environment: str | None
    application: str | None
    status: int | None
    accesses: tuple[_Access, ...]
    parts: tuple[_Part, ...]


read_indexed = msgspec.json.Decoder(Indexed).decode


def block_of(row: int) -> int:
    return row >> BLOCK_BITS


def era_of(row: int) -> int:
    return row >> ERA_BITS


def block_rows(number: int) -> tuple[int, int]:
    """The first and the last row of a block."""
    return number << BLOCK_BITS, ((number + 1) << BLOCK_BITS) - 1


def key_of(text: str) -> int:
    """32 bits that stand for an id. Others may have the same: look at what is found."""
    return zlib.crc32(text.encode("utf-8", "replace"))


def terms_of(shape: Shape) -> set[str]:
    """What a record can be found by."""
    terms = {ANY, f"action={shape.action}", f"decision={shape.decision}"}
    for name in ("caller", "environment", "application", "status"):
        value = getattr(shape, name)
        if value is not None:
            terms.add(f"{name}={value}")
    accesses = [*shape.accesses, *(access for part in shape.parts for access in part.accesses)]
    for access in accesses:
        terms.add(f"table={access.table}")
        terms.add(f"operation={access.operation}")
        terms.add(f"access={access.operation} {access.table}")
    return terms


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
    first_row, _ = block_rows(number)
    postings: dict[str, list[int]] = {}
    # A block has few shapes: the terms of each are made once.
    shapes: dict[Shape, list[list[int]]] = {}
    moments: list[tuple[int, int]] = []
    minutes: dict[str, int] = {}
    keys: list[tuple[int, int]] = []
    opened: dict[str, int] = {}
    closed: list[str] = []
    newest_intent = 0
    for row, body in rows:
        if not body.startswith(OUTCOME_PREFIX):
            if is_record(body):
                opened[record_id(body)] = row
                newest_intent = max(newest_intent, _epoch_ms(record_time(body), minutes))
            continue
        found = read_indexed(body)
        if opened.pop(found.id, None) is None:
            closed.append(found.id)
        place = row - first_row
        shape = Shape(
            found.action,
            found.decision,
            found.caller,
            found.environment,
            found.application,
            found.status,
            found.accesses,
            found.parts,
        )
        sets = shapes.get(shape)
        if sets is None:
            sets = shapes[shape] = [postings.setdefault(term, []) for term in terms_of(shape)]
        for places in sets:
            places.append(place)
        moments.append((place, _epoch_ms(found.time, minutes)))
        keys.append((key_of(found.id), row))
        if found.request_id is not None and found.request_id != found.id:
            keys.append((key_of(found.request_id), row))
    first_time = min((moment for _, moment in moments), default=0)
    times = array("I", [_NO_TIME]) * BLOCK_ROWS
    for place, moment in moments:
        times[place] = min(moment - first_time, _NO_TIME - 1)
    return Block(
        number=number,
        first_time=first_time,
        last_time=max(newest_intent, *(moment for _, moment in moments), 0),
        times=times.tobytes(),
        postings=postings,
        keys=sorted(keys),
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


def _epoch_ms(time: str, minutes: dict[str, int]) -> int:
    """A timestamp in milliseconds since 1970; 0 for what is none. Remembers the minutes."""
    try:
        minute = minutes.get(time[:16])
        if minute is None:
            moment = datetime.fromisoformat(time[:16] + "Z")
            minute = minutes[time[:16]] = int(moment.timestamp()) * 1000
        return minute + int(time[17:19]) * 1000 + int(time[20:23])
    except ValueError:
        return 0
