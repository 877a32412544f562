"""How long the write-ahead log of an audit file is: neither more nor less than it need be.

To write over what is there takes a disk three quarters of the time of making a file longer, since
nothing but its content changes. So the log is made as long as it may become, and once it is
longer it is moved into the database and written over from its start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from app.audit.sqlite import transaction
from app.audit.sqlite_files import WAL_BYTES, wal_of

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager
    from pathlib import Path

ROOM_BYTES: Final = 8 * WAL_BYTES
"""As long as less is free, the log gets its length only as it is needed."""

_PIECE: Final = bytes(512 * 1024)


def lengthen_log(
    connection: sqlite3.Connection, turn: AbstractContextManager[None], path: Path
) -> None:
    """Raises `OSError` and `sqlite3.Error`."""
    if wal_of(path).stat().st_size >= WAL_BYTES or _room_bytes(path) < ROOM_BYTES:
        return
    log = os.open(wal_of(path), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        size = 0
        while size < WAL_BYTES:
            # SQLite reads a log up to the first frame that is not of its last round, whatever
            # follows. But nobody may be about to add one where we write.
            with turn, transaction(connection):
                size = os.fstat(log).st_size
                size += os.write(log, _PIECE[: max(WAL_BYTES - size, 0)])
            os.fsync(log)
    finally:
        os.close(log)


def shorten_log(
    connection: sqlite3.Connection, turn: AbstractContextManager[None], path: Path
) -> None:
    """Raises `OSError` and `sqlite3.Error`."""
    if wal_of(path).stat().st_size <= WAL_BYTES:
        return
    # The bulk beside the writer, what came meanwhile in his stead: only a log that was moved
    # whole is begun again from its start. `journal_size_limit` cuts it then.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    with turn:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _room_bytes(path: Path) -> int:
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize
