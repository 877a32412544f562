"""Whose turn it is to write an audit file, among the threads and the workers that do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Turn:
    """A context manager. SQLite has locks of its own, and these stay what keeps the file whole.

    But who finds SQLite's lock taken sleeps for milliseconds, longer each time; here the next
    one is woken the moment the turn is given up. Where the lock file cannot be had, SQLite's
    locks must do; so they do for a process that is the only one to write (`path` is None).
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file: int | None = None

    def __enter__(self) -> None:
        self._threads.acquire()
        if self._path is not None:
            self._lock(self._path)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def _lock(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = _opened(path)
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def close(self) -> None:
        """Give the lock file back; the next turn opens it again."""
        with self._threads:
            if self._file is not None:
                os.close(self._file)
                self._file = None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody else is in here with this lock file, as long as it lasts.

    Who dies gives it up. Without a lock file everybody is taken for alone.
    """
    try:
        file = _opened(path)
    except OSError:
        yield True
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
