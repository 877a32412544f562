"""What an audit file needs done beside the writing: its index, its log's length, its age."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from app.audit.sqlite import connect
from app.audit.sqlite_files import Files
from app.audit.sqlite_index import advance
from app.audit.sqlite_log import lengthen_log, shorten_log
from app.audit.sqlite_retention import retire_block
from app.audit.sqlite_turn import alone
from app.audit.store import StoreFailed

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from pathlib import Path

    from app.audit.chain import Signer

log = structlog.stdlib.get_logger(__name__)

EVERY_S: Final = 0.25
RETIRE_EVERY_S: Final = 60.0


class SqliteKeeper:
    """A thread of its own, which may fail and begin again without anybody waiting.

    Of several workers on one file, one keeps it; another takes over when that one ends.
    """

    def __init__(
        self,
        path: Path,
        turn: AbstractContextManager[None],
        signer: Signer,
        retention: timedelta | None = None,
    ) -> None:
        self._path = path
        self._signer = signer
        self._retention = retention
        self._retired_at = -RETIRE_EVERY_S
        self._turn = turn
        self._warned = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._keep, name="audit-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        failed = False
        while not self._stop.wait(EVERY_S):
            try:
                with alone(self._path.with_name(self._path.name + "-keeper")) as chosen:
                    if chosen:
                        self._keep_until_stopped()
                failed = False
            except (sqlite3.Error, OSError, StoreFailed) as error:
                # The journal meets the same trouble, and says so to those who wait.
                if not failed:
                    log.warning("audit.keeper_failed", error=type(error).__name__)
                failed = True

    def _keep_until_stopped(self) -> None:
        # It must be there: to connect would make it.
        self._path.stat()
        connection = connect(self._path)
        files: Files | None = None
        try:
            # What it writes can be made again from the entries: no need to wait for the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
            # Opens the log, so that it is the one that this connection has.
            connection.execute("SELECT value FROM state").fetchone()
            files = Files(self._path)
            self._lengthen_log(connection)
            while True:
                # As long as this connection lives, SQLite has for the whole process what it knows
                # of a log that was removed. The journal's next one can only begin anew without it.
                files.look_closely()
                while advance(connection, self._turn):
                    shorten_log(connection, self._turn, self._path)
                    if self._stop.is_set():
                        return
                self._retire(connection)
                shorten_log(connection, self._turn, self._path)
                if self._stop.wait(EVERY_S):
                    return
        finally:
            if files is not None:
                files.close()
            connection.close()

    def _lengthen_log(self, connection: sqlite3.Connection) -> None:
        """Only faster: where it cannot be done, the rest of the work is."""
        try:
            lengthen_log(connection, self._turn, self._path)
        except OSError as error:
            if not self._warned:
                log.warning("audit.log_not_lengthened", error=error.strerror)
            self._warned = True

    def _retire(self, connection: sqlite3.Connection) -> None:
        """Remove what is too old, bit by bit."""
        if self._retention is None or time.monotonic() < self._retired_at + RETIRE_EVERY_S:
            return
        now = datetime.now(UTC)
        while retire_block(
            connection, self._turn, self._signer, before=now - self._retention, now=now
        ):
            shorten_log(connection, self._turn, self._path)
            if self._stop.is_set():
                return
        self._retired_at = time.monotonic()
