"""Removes what is older than the retention from an audit file, and signs for it.

Whole blocks from the oldest on, so that of each chain only its beginning goes; the tombstone
says how far, and with which hash the rest begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.audit import chain, postings
from app.audit.record import timestamp
from app.audit.sqlite import transaction

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager
    from datetime import datetime

    from app.audit.chain import Signer

ROWS_AT_ONCE: Final = 512
"""What is removed in one turn: the journal waits for about a millisecond."""


def retire_block(
    connection: sqlite3.Connection,
    turn: AbstractContextManager[None],
    signer: Signer,
    *,
    before: datetime,
    now: datetime,
) -> bool:
    """Remove the oldest block if all of it is older than `before`. False when there is none."""
    oldest = connection.execute(
        "SELECT block, last_time FROM blocks ORDER BY block LIMIT 1"
    ).fetchone()
    if oldest is None or oldest[1] >= int(before.timestamp() * 1000):
        return False
    number: int = oldest[0]
    _, last_row = postings.block_rows(number)
    # The last row of all stays, or the next one would have a number that was given before.
    newest = connection.execute("SELECT max(row) FROM entries").fetchone()[0]
    if newest is None or newest <= last_row:
        return False
    while True:
        rows = [
            row
            for (row,) in connection.execute(
                "SELECT row FROM entries WHERE row <= ? ORDER BY row LIMIT ?",
                (last_row, ROWS_AT_ONCE),
            )
        ]
        if not rows:
            break
        with turn, transaction(connection):
            for tombstone in _tombstones(connection, rows[-1], signer, before, now):
                connection.execute(
                    "INSERT OR REPLACE INTO tombstones SELECT writer, ? FROM writers"
                    " WHERE name = ?",
                    (chain.encode_note(tombstone), tombstone.writer),
                )
            connection.execute("DELETE FROM entries WHERE row <= ?", (rows[-1],))
    with turn, transaction(connection):
        connection.execute(
            "DELETE FROM postings WHERE block = ? AND term IN (SELECT term FROM terms)", (number,)
        )
        connection.execute("DELETE FROM open_intents WHERE row <= ?", (last_row,))
        connection.execute("DELETE FROM blocks WHERE block = ?", (number,))
    _forget_keys(connection, turn, last_row)
    return True


def _tombstones(
    connection: sqlite3.Connection, last_row: int, signer: Signer, before: datetime, now: datetime
) -> list[chain.Tombstone]:
    return [
        chain.tombstone(
            chain.Head(name, seq, hash_),
            time=timestamp(now),
            before=timestamp(before),
            signer=signer,
        )
        for name, seq, hash_, _ in connection.execute(
            "SELECT name, entries.seq, entries.hash, max(row)"
            " FROM entries JOIN writers USING (writer) WHERE row <= ? GROUP BY entries.writer",
            (last_row,),
        ).fetchall()
    ]


def _forget_keys(
    connection: sqlite3.Connection, turn: AbstractContextManager[None], last_row: int
) -> None:
    """Keys of eras that are gone whole. Until then they lead to rows that are not there."""
    era = postings.era_of(last_row + 1)
    removed = 1
    while removed:
        with turn:
            removed = connection.execute(
                "DELETE FROM keys WHERE (era, key, row) IN"
                " (SELECT era, key, row FROM keys WHERE era < ? LIMIT ?)",
                (era, ROWS_AT_ONCE),
            ).rowcount
