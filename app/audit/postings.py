"""The index of an audit file: for each block of rows, which of them have which property.

A B-tree for each filter would cost every record ten insertions. Records come in the order of
their rows and are asked for from the newest down, so a block of rows is indexed at once, when
it is full: one small set of rows for each term ("caller=…") that occurs in it. Filters that
are asked together are sets that are cut. What is newer than the last full block is read.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.audit.query import Query

BLOCK_BITS: Final = 12
BLOCK_ROWS: Final = 1 << BLOCK_BITS

ERA_BITS: Final = 18
"""Keys come in random order. Kept apart by era, only the pages of the present one are written."""

ANY: Final = "record"
"""The term that every finished record has."""

BITMAP_BYTES: Final = BLOCK_ROWS // 8
NO_TIME: Final = 0xFFFFFFFF
OFFSET_MAX: Final = NO_TIME - 1
"""Milliseconds after a block's first time that can be told; who is later stands here too."""

ID_SLACK_MS: Final = 1
"""A request may get its id and its time on two sides of a millisecond."""


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


def moment_of_id(text: str) -> int | None:
    """The milliseconds since 1970 that a UUIDv7 begins with; None for a text that cannot be one.

    Nearly every record's id says its time, and so leads to its place by the blocks' times.
    Only the others have a key.
    """
    try:
        return int(text[:8] + text[9:13], 16)
    except ValueError:
        return None


def shape_of(found: Indexed) -> Shape:
    return Shape(
        found.action,
        found.decision,
        found.caller,
        found.environment,
        found.application,
        found.status,
        found.accesses,
        found.parts,
    )


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


def unpack(packed: bytes) -> int:
    """A set of places as an integer, bit by bit."""
    if len(packed) == BITMAP_BYTES:
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


def rows_at(number: int, times: bytes, first_time: int, moment: int) -> Iterator[int]:
    """The rows of a block with that time, which is in epoch milliseconds."""
    if not 0 <= moment - first_time <= OFFSET_MAX:
        return
    wanted = (moment - first_time).to_bytes(4, sys.byteorder)
    first, _ = block_rows(number)
    at = times.find(wanted)
    while at >= 0:
        # Between two times stands what only looks like one.
        if at % 4 == 0:
            yield first + at // 4
        at = times.find(wanted, at + 1)


def within(
    rows: Iterable[int], times: bytes, first_time: int, since_ms: int | None, until_ms: int | None
) -> Iterator[int]:
    """The rows whose time may lie in a span of epoch milliseconds, both ends included."""
    offsets = array("I", times)
    low = 0 if since_ms is None else since_ms - first_time
    high = NO_TIME if until_ms is None else until_ms - first_time
    return (row for row in rows if low <= offsets[row & (BLOCK_ROWS - 1)] <= high)
