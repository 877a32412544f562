"""What a block of entries adds to the index: its terms' places, its times, its keys.

This runs beside the answers and takes the interpreter from them, so of records that are alike
but for their id, time, target and measures only the first is read.
"""

from __future__ import annotations

from array import array
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from app.audit import postings
from app.audit.record import BACKSLASH, OUTCOME_PREFIX, is_record, record_id, record_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Where `record.encode` puts an outcome's id and time.
_ID: Final = len(OUTCOME_PREFIX)
_ID_END: Final = _ID + 36
_BEFORE_TIME: Final = b'","time":"'
_TIME: Final = _ID_END + len(_BEFORE_TIME)
_TIME_END: Final = _TIME + 27
_ID_MS_END: Final = _ID + 13
_TIME_MS_END: Final = _TIME + 23

_TARGET: Final = b'"target":"'
_REQUEST_ID: Final = b'"request_id":"'
_REQUEST_ID_TAIL: Final = b'equest_id":"'
"""Ends the name of `upstream_request_id` too, which comes before."""
_TO_NEXT: Final = len(_REQUEST_ID_TAIL) + 36 + len(b'",')

_DENSE: Final = 64
"""So many places are cheaper to join as bits than one by one."""


class Places:
    """The places in a block of the records that have the same terms."""

    __slots__ = ("_bits", "numbers")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self.numbers = list(numbers)
        self._bits: int | None = None

    def bits(self) -> int:
        """Bit by bit. To be asked for when all numbers are there."""
        if self._bits is None:
            self._bits = _bits_of(self.numbers)
        return self._bits


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows of one block add to the index.

    `postings` are places in the block, see `pack`. `times` holds, for each place, the
    record's milliseconds since `first_time` (epoch milliseconds); a place without a finished
    record holds the largest value. `last_time` covers the intents too. `finished` are the ids of
    all outcomes, `opened` the rows of intents that the block does not finish.
    """

    number: int
    first_time: int
    last_time: int
    times: bytes
    postings: dict[str, list[Places]]
    keys: list[tuple[int, int]]
    opened: dict[str, int]
    finished: list[str]


def build(number: int, rows: Iterable[tuple[int, bytes]]) -> Block:
    """Index a block's entries, given as row and body in the order of rows."""
    first_row, _ = postings.block_rows(number)
    by_term: dict[str, list[Places]] = {}
    by_shape: dict[postings.Shape, Places] = {}
    by_likeness: dict[bytes, Places] = {}
    clock = _Clock()
    places: list[int] = []
    moments: list[int] = []
    finished: list[str] = []
    keys: set[tuple[int, int]] = set()
    opened: dict[str, int] = {}
    newest_intent = 0
    for row, body in rows:
        if not body.startswith(OUTCOME_PREFIX):
            if is_record(body):
                opened[record_id(body)] = row
                newest_intent = max(newest_intent, clock.moment(record_time(body)))
            continue
        likeness = _likeness(body)
        same = None if likeness is None else by_likeness.get(likeness)
        if same is None:
            found = postings.read_indexed(body)
            shape = postings.shape_of(found)
            same = by_shape.get(shape)
            if same is None:
                same = by_shape[shape] = Places()
                for term in postings.terms_of(shape):
                    by_term.setdefault(term, []).append(same)
        if likeness is None:
            id_, (moment, told) = found.id, clock.read(found.id, found.time)
            if found.request_id is not None and found.request_id != id_:
                keys.add((postings.key_of(found.request_id), row))
        else:
            by_likeness[likeness] = same
            id_ = body[_ID:_ID_END].decode("ascii", "replace")
            moment, told = clock.read_at(body)
        if not told:
            keys.add((postings.key_of(id_), row))
        if opened:
            opened.pop(id_, None)
        same.numbers.append(row - first_row)
        places.append(row - first_row)
        moments.append(moment)
        finished.append(id_)
    first_time, last_time = min(moments, default=0), max(moments, default=0)
    if last_time - first_time > postings.OFFSET_MAX:
        # Some stand under a time that is not theirs, and their ids do not lead to it.
        keys.update(
            (postings.key_of(id_), first_row + place)
            for id_, place, moment in zip(finished, places, moments, strict=True)
            if moment - first_time > postings.OFFSET_MAX
        )
    offsets = [postings.NO_TIME] * postings.BLOCK_ROWS
    for place, moment in zip(places, moments, strict=True):
        offsets[place] = min(moment - first_time, postings.OFFSET_MAX)
    return Block(
        number=number,
        first_time=first_time,
        last_time=max(newest_intent, last_time),
        times=array("I", offsets).tobytes(),
        postings=by_term,
        keys=sorted(keys),
        opened=opened,
        finished=finished,
    )


def pack(sets: Sequence[Places]) -> bytes:
    """Sets of places as one: their numbers, or a bitmap where that is shorter."""
    if 2 * sum(len(one.numbers) for one in sets) < postings.BITMAP_BYTES:
        return array("H", chain.from_iterable(one.numbers for one in sets)).tobytes()
    bits = 0
    few: list[int] = []
    for one in sets:
        if len(one.numbers) < _DENSE:
            few += one.numbers
        else:
            bits |= one.bits()
    return (bits | _bits_of(few)).to_bytes(postings.BITMAP_BYTES, "little")


def _bits_of(numbers: Sequence[int]) -> int:
    # Written as a binary number and read at once: shifting each place would copy the whole
    # set each time.
    last = postings.BLOCK_ROWS - 1
    digits = bytearray(b"0") * (last + 1)
    for number in numbers:
        digits[last - number] = 49
    return int(digits, 2)


def _likeness(body: bytes) -> bytes | None:
    """What two outcomes share that have the same terms, without reading them.

    Only of bodies that say the id once more as the request's id, and have no parts. None for
    others, which are to be read.
    """
    # Without a backslash no quote stands within a text, so that a name is where it seems to be.
    if BACKSLASH in body or not body.startswith(_BEFORE_TIME, _ID_END) or body.endswith(b"]}"):
        return None
    target = body.find(_TARGET, _TIME_END)
    after = body.find(b'"', target + len(_TARGET)) if target > 0 else _TIME_END
    end = body.find(_REQUEST_ID_TAIL, after) - 2
    own = _REQUEST_ID + body[_ID:_ID_END] + b'"'
    # The second place is behind an upstream's id of the usual length.
    if end < 0 or not (body.startswith(own, end) or body.startswith(own, end + 2 + _TO_NEXT)):
        return None
    return body[_TIME_END:target] + body[after:end] if target > 0 else body[_TIME_END:end]


class _Clock:
    """Reads timestamps, and remembers what it has read: a block is mostly of one minute."""

    def __init__(self) -> None:
        self._minutes: dict[str, int] = {}
        self._known: dict[bytes, tuple[int, bool]] = {}

    def moment(self, time: str) -> int:
        """Milliseconds since 1970; 0 for what is no timestamp."""
        try:
            minute = self._minutes.get(time[:16])
            if minute is None:
                start = datetime.fromisoformat(time[:16] + "Z")
                minute = self._minutes[time[:16]] = int(start.timestamp()) * 1000
            return minute + int(time[17:19]) * 1000 + int(time[20:23])
        except ValueError:
            return 0

    def read(self, id_: str, time: str) -> tuple[int, bool]:
        """The moment, and whether the id leads to it: see `postings.moment_of_id`."""
        moment, said = self.moment(time), postings.moment_of_id(id_)
        return moment, said is not None and 0 <= moment - said <= postings.ID_SLACK_MS

    def read_at(self, body: bytes) -> tuple[int, bool]:
        """The same, of an outcome's bytes."""
        text = body[_ID:_ID_MS_END] + body[_TIME:_TIME_MS_END]
        known = self._known.get(text)
        if known is None:
            both = text.decode("ascii", "replace")
            known = self._known[text] = self.read(both[:13], both[13:])
        return known
