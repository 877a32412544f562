"""The files of an audit database, and whether they are still there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from app.audit.store import StoreFailed

if TYPE_CHECKING:
    from pathlib import Path

WAL_BYTES: Final = 16 * 1024 * 1024
"""The length of the write-ahead log: see `sqlite_log`."""


_PATH_ONLY: Final = getattr(os, "O_PATH", os.O_RDONLY)
"""Needs no right to list the folder, where there is such a thing."""


def wal_of(path: Path) -> Path:
    """The write-ahead log beside a database."""
    return path.with_name(path.name + "-wal")


class Files:
    """A database and its log, as they were when this was made. `close()` it.

    The look after each commit must not be at the log itself: on Linux a look at the times of a
    file makes the next write store a new one, which costs half as much as the commit. So it is
    at the folder, which changes when a file in it is removed, renamed or replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = wal_of(path)
        self._inodes = self._found()
        self._folder = os.open(path.parent, _PATH_ONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # An older time would only lead to one look too many.
        self._changed_ns = -1

    def look(self) -> None:
        """Raises `StoreFailed` for a file that was removed or replaced."""
        changed_ns = os.fstat(self._folder).st_mtime_ns
        if changed_ns != self._changed_ns:
            self.look_closely()
            self._changed_ns = changed_ns

    def look_closely(self) -> None:
        """The same, also where the folder was moved or does not tell when it changed."""
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

    def _found(self) -> tuple[tuple[int, int], ...]:
        database, wal = self._path.stat(), self._wal.stat()
        return (database.st_dev, database.st_ino), (wal.st_dev, wal.st_ino)
