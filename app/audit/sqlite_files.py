"""The files of an audit database: whether they are still there, and room for the log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from app.audit.store import StoreFailed

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

WAL_BYTES: Final = 16 * 1024 * 1024
"""What the write-ahead log has from its first day. Once it is longer, it is moved into the
database, and written over from its start.
"""

_ZEROS: Final = bytes(1024 * 1024)


def wal_of(path: Path) -> Path:
    """The write-ahead log beside a database."""
    return path.with_name(path.name + "-wal")


def make_room_in_log(connection: sqlite3.Connection, path: Path) -> None:
    """Make the log as long as it may become, if it is shorter.

    To write over what is there takes a disk three quarters of the time of making a file longer,
    since nothing but its content changes. SQLite reads a log up to the first frame that is not
    of its last round, whatever follows. Raises `OSError` and `sqlite3.Error`.
    """
    # Whoever writes to the log must have its turn: nobody does meanwhile.
    connection.execute("BEGIN IMMEDIATE")
    try:
        with wal_of(path).open("r+b", buffering=0) as log:
            size = log.seek(0, os.SEEK_END)
            if size < WAL_BYTES:
                while size < WAL_BYTES:
                    size += log.write(_ZEROS[: WAL_BYTES - size])
                os.fsync(log.fileno())
    finally:
        connection.execute("ROLLBACK")


class Files:
    """A database and its log, as they were when this was made. `close()` it.

    The look after each commit must not be at the log itself: on Linux a look at the times of a
    file makes the next write store a new one, which costs half as much as the commit. So it is
    at the folder, which changes when a file in it is removed, renamed or replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = wal_of(path)
        self._folder = -1
        self._inodes = self._found()
        # Where the name is a link, the folder says nothing of what it leads to.
        if not path.is_symlink():
            self._folder = os.open(path.parent, _PATH_ONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._changed_ns = self._change()

    def look(self) -> None:
        """Raises `StoreFailed` for a file that was removed or replaced."""
        changed_ns = self._change()
        if changed_ns != self._changed_ns or changed_ns < 0:
            self.look_closely()
            self._changed_ns = changed_ns

    def look_closely(self) -> None:
        """The same, also of a folder that was moved, and of one that tells no time."""
        try:
            same = self._found() == self._inodes
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreFailed("the audit file was removed or replaced under the process")

    def close(self) -> None:
        folder, self._folder = self._folder, -1
        if folder >= 0:
            os.close(folder)

    def _change(self) -> int:
        return -1 if self._folder < 0 else os.fstat(self._folder).st_mtime_ns

    def _found(self) -> tuple[tuple[int, int], ...]:
        database, wal = self._path.stat(), self._wal.stat()
        return (database.st_dev, database.st_ino), (wal.st_dev, wal.st_ino)


# Needs no right to list the folder, where there is such a thing.
_PATH_ONLY: Final = getattr(os, "O_PATH", os.O_RDONLY)
