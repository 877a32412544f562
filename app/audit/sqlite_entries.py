"""Every entry of an audit file, for verification and export: also of a file nobody writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from app.audit.chain import Entry, Tombstone, decode_note
from app.audit.sqlite import connect, failing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_AT_ONCE: Final = 5000
"""Rows of one look. A single long one would keep the write-ahead log from being shortened."""


def read_entries(path: Path, *, after_row: int = 0) -> Iterator[tuple[int, Entry]]:
    """Rows and entries, in the order in which they became durable. Raises `StoreFailed`."""
    with failing("read"), contextlib.closing(connect(path, read_only=True)) as connection:
        while True:
            found = connection.execute(
                "SELECT row, name, entries.seq, body, entries.hash"
                " FROM entries JOIN writers USING (writer) WHERE row > ? ORDER BY row LIMIT ?",
                (after_row, _AT_ONCE),
            ).fetchall()
            for row, name, seq, body, hash_ in found:
                yield row, Entry(name, seq, body, hash_)
            if len(found) < _AT_ONCE:
                return
            after_row = found[-1][0]


def newest_row(path: Path) -> int:
    """The row that was written last; 0 where there is none. Raises `StoreFailed`."""
    with failing("read"), contextlib.closing(connect(path, read_only=True)) as connection:
        row: int = connection.execute("SELECT coalesce(max(row), 0) FROM entries").fetchone()[0]
        return row


def read_tombstones(path: Path) -> list[Tombstone]:
    """What retention removed. Read it before the entries. Raises `StoreFailed`."""
    with failing("read"), contextlib.closing(connect(path, read_only=True)) as connection:
        notes = [
            decode_note(body)
            for (body,) in connection.execute("SELECT body FROM tombstones ORDER BY writer")
        ]
    return [note for note in notes if isinstance(note, Tombstone)]
