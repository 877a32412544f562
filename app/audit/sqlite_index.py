"""Brings the index of an audit file up to its entries, a block at a time."""

from __future__ import annotations

import json
import time
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from app.audit import postings
from app.audit.block import build, pack
from app.audit.sqlite import ROWS_MAX, insert_rows, transaction

T = TypeVar("T")

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from app.audit.block import Block, Places

_SLICE: Final = 64
"""Rows that are read in one go: some 0.1 ms, after which others have their turn."""

_PAUSES = 3
"""For each moment of work so many of rest: the answers go before the index."""

_TERM_WEIGHT: Final = 16
_WEIGHT_MAX: Final = 1024
"""Sets that are packed in one go, some 0.3 ms: a term costs as much as so many sets."""


def advance(connection: sqlite3.Connection, turn: AbstractContextManager[None]) -> bool:
    """Index the next full block, if there is one.

    Several processes may do so at once: who comes second sees it and leaves it.
    """
    indexed = _indexed(connection)
    number = postings.block_of(indexed + 1)
    _, last_row = postings.block_rows(number)
    newest = connection.execute("SELECT max(row) FROM entries").fetchone()[0]
    if newest is None or newest < last_row:
        return False
    block = build(number, _rows(connection, indexed + 1, last_row))
    for statement, values in _unhurried(_pieces(connection, block)):
        # What a block's index is made of may be there before the block counts as indexed, and
        # may be written twice. So the journal waits for one piece, and never for all.
        with turn:
            connection.execute(statement, values)
    with turn, transaction(connection):
        if _indexed(connection) == indexed:
            _complete(connection, block, last_row)
    return True


def _pieces(connection: sqlite3.Connection, block: Block) -> Iterator[tuple[str, list[Any]]]:
    # One statement for many rows: see `SqliteStore`.
    yield (
        "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)",
        [block.number, block.first_time, block.last_time, block.times],
    )
    numbers = _terms(connection, list(block.postings))
    new = [text for text in block.postings if text not in numbers]
    if new:
        yield "INSERT OR IGNORE INTO terms (text) SELECT value FROM json_each(?)", [json.dumps(new)]
        numbers |= _terms(connection, new)
    for some in _some([(numbers[text], sets) for text, sets in block.postings.items()]):
        packed = [(number, block.number, pack(sets)) for number, sets in some]
        yield insert_rows("OR REPLACE INTO postings", 3, len(packed)), list(chain(*packed))
    era = postings.era_of(postings.block_rows(block.number)[0])
    for start in range(0, len(block.keys), ROWS_MAX):
        keys = block.keys[start : start + ROWS_MAX]
        yield (
            "INSERT OR IGNORE INTO keys SELECT ?, value ->> 0, value ->> 1 FROM json_each(?)",
            [era, json.dumps(keys)],
        )


def _terms(connection: sqlite3.Connection, texts: list[str]) -> dict[str, int]:
    """The numbers of those that have one."""
    return dict(
        connection.execute(
            "SELECT text, term FROM terms WHERE text IN (SELECT value FROM json_each(?))",
            (json.dumps(texts),),
        )
    )


def _complete(connection: sqlite3.Connection, block: Block, last_row: int) -> None:
    connection.execute(
        "UPDATE writers SET seq = last.seq, hash = last.hash FROM"
        " (SELECT writer, seq, hash, max(row) FROM entries WHERE row BETWEEN ? AND ?"
        "  GROUP BY writer) AS last WHERE writers.writer = last.writer",
        (postings.block_rows(block.number)[0], last_row),
    )
    connection.execute(
        "DELETE FROM open_intents WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(_closed(connection, block)),),
    )
    connection.execute(
        "INSERT OR IGNORE INTO open_intents SELECT value, key FROM json_each(?)",
        (json.dumps(block.opened),),
    )
    connection.execute("UPDATE state SET value = ? WHERE name = 'indexed'", (last_row,))


def _closed(connection: sqlite3.Connection, block: Block) -> list[str]:
    """The ids of open intents that the block finishes, and perhaps others."""
    # Most outcomes had no intent. As long as few are open it is cheaper to look at these.
    few = len(block.finished) // 4
    ids = connection.execute("SELECT id FROM open_intents LIMIT ?", (few + 1,)).fetchall()
    if len(ids) > few:
        return block.finished
    finished = set(block.finished)
    return [id_ for (id_,) in ids if id_ in finished]


def _some(many: list[tuple[int, list[Places]]]) -> Iterator[list[tuple[int, list[Places]]]]:
    """Terms and their places, in the order of terms, as many at once as can be packed quickly."""
    some: list[tuple[int, list[Places]]] = []
    weight = 0
    for number, sets in sorted(many, key=itemgetter(0)):
        some.append((number, sets))
        weight += _TERM_WEIGHT + len(sets)
        if weight >= _WEIGHT_MAX or len(some) == ROWS_MAX:
            yield some
            some, weight = [], 0
    if some:
        yield some


def _rows(connection: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    for start in _unhurried(range(first, last + 1, _SLICE)):
        yield from _slice(connection, start, min(start + _SLICE - 1, last))


def _slice(connection: sqlite3.Connection, first: int, last: int) -> Iterable[tuple[int, bytes]]:
    # SQLite gives up the interpreter for each row that it returns, and a busy event loop does not
    # give it back soon. No line end stands within a body, so they come as one.
    joined = connection.execute(
        "SELECT CAST(group_concat(body, x'0A') AS BLOB)"
        " FROM (SELECT body FROM entries WHERE row BETWEEN ? AND ? ORDER BY row)",
        (first, last),
    ).fetchone()[0]
    bodies = joined.split(b"\n") if joined is not None else []
    if len(bodies) == last - first + 1:
        return zip(range(first, last + 1), bodies, strict=True)
    # A row was removed, or something was put in that this program did not write.
    return connection.execute(
        "SELECT row, body FROM entries WHERE row BETWEEN ? AND ? ORDER BY row", (first, last)
    ).fetchall()


def _unhurried(steps: Iterable[T]) -> Iterator[T]:
    """Rest after each step for a multiple of the time that it took."""
    began = time.perf_counter()
    for step in steps:
        yield step
        # A sleep of nothing would have the GIL back before anybody else could take it.
        time.sleep(_PAUSES * min(time.perf_counter() - began, 0.01))
        began = time.perf_counter()


def _indexed(connection: sqlite3.Connection) -> int:
    row: int = connection.execute("SELECT value FROM state WHERE name = 'indexed'").fetchone()[0]
    return row
