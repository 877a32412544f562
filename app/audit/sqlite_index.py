"""Brings the index of an audit file up to its entries, a block at a time."""

from __future__ import annotations

import json
import time
from itertools import chain
from typing import TYPE_CHECKING, Final

from app.audit import postings
from app.audit.sqlite import ROWS_MAX, insert_rows, transaction

if TYPE_CHECKING:
    import sqlite3
    import threading
    from collections.abc import Iterator

_SLICE: Final = 32
"""Rows that are read in one go: some 0.1 ms, after which others have their turn."""

_PAUSE_S: Final = 0.00005
"""A sleep of nothing would have the GIL back before anybody else could take it."""


def advance(connection: sqlite3.Connection, turn: threading.Lock) -> bool:
    """Index the next full block, if there is one.

    Several processes may do so at once: who comes second sees it and leaves it.
    """
    indexed = _indexed(connection)
    number = postings.block_of(indexed + 1)
    _, last_row = postings.block_rows(number)
    newest = connection.execute("SELECT max(row) FROM entries").fetchone()[0]
    if newest is None or newest < last_row:
        return False
    block = postings.build(number, _rows(connection, indexed + 1, last_row))
    with turn, transaction(connection):
        if _indexed(connection) == indexed:
            _store(connection, block, last_row)
    return True


def _store(connection: sqlite3.Connection, block: postings.Block, last_row: int) -> None:
    connection.execute(
        "UPDATE writers SET seq = last.seq, hash = last.hash FROM"
        " (SELECT writer, seq, hash, max(row) FROM entries WHERE row BETWEEN ? AND ?"
        "  GROUP BY writer) AS last WHERE writers.writer = last.writer",
        (postings.block_rows(block.number)[0], last_row),
    )
    connection.execute(
        "INSERT INTO blocks VALUES (?, ?, ?, ?)",
        (block.number, block.first_time, block.last_time, block.times),
    )
    texts = json.dumps(list(block.postings))
    connection.execute(
        "INSERT OR IGNORE INTO terms (text) SELECT value FROM json_each(?)", (texts,)
    )
    numbers = dict(
        connection.execute(
            "SELECT text, term FROM terms WHERE text IN (SELECT value FROM json_each(?))", (texts,)
        )
    )
    values = [(numbers[text], block.number, rows) for text, rows in block.postings.items()]
    for start in range(0, len(values), ROWS_MAX):
        some = values[start : start + ROWS_MAX]
        connection.execute(insert_rows("postings", 3, len(some)), list(chain(*some)))
    connection.execute(
        "INSERT OR IGNORE INTO keys"
        " SELECT ?, value ->> 0, value ->> 1 FROM json_each(?) ORDER BY 2",
        (postings.era_of(last_row), json.dumps(block.keys)),
    )
    connection.execute(
        "DELETE FROM open_intents WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(block.closed),),
    )
    connection.execute(
        "INSERT OR IGNORE INTO open_intents SELECT value, key FROM json_each(?)",
        (json.dumps(block.opened),),
    )
    connection.execute("UPDATE state SET value = ? WHERE name = 'indexed'", (last_row,))


def _rows(connection: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    for start in range(first, last + 1, _SLICE):
        yield from connection.execute(
            "SELECT row, body FROM entries WHERE row BETWEEN ? AND ? ORDER BY row",
            (start, min(start + _SLICE - 1, last)),
        ).fetchall()
        time.sleep(_PAUSE_S)


def _indexed(connection: sqlite3.Connection) -> int:
    row: int = connection.execute("SELECT value FROM state WHERE name = 'indexed'").fetchone()[0]
    return row
