"""Whose turn it is to write an audit file, among the threads and the workers that do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Turn:
    """A context manager. SQLite has locks of its own, and these stay what keeps the file whole.

    But who finds SQLite's lock taken sleeps for milliseconds, longer each time; here the next
    one is woken the moment the turn is given up. Where the lock file cannot be had, SQLite's
    locks must do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file: int | None = None

    def __enter__(self) -> None:
        self._threads.acquire()
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Give the lock file back; the next turn opens it again."""
        with self._threads:
            if self._file is not None:
                os.close(self._file)
                self._file = None
