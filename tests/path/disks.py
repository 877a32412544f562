"""A disk under the audit that is slow, or takes nothing until it is mended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from app.audit.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from app.audit.chain import Entry


class Disk:
    """Under one audit file; other brokers' disks stay as they are."""

    def __init__(self, audit_file: Path, patched: pytest.MonkeyPatch) -> None:
        self.broken = False
        self.slow_s = 0.0
        append, opens = SqliteStore.append, SqliteStore.open

        def appended(store: SqliteStore, entries: Sequence[Entry]) -> None:
            if store.path == audit_file:
                self._work()
            append(store, entries)

        def opened(store: SqliteStore) -> None:
            if store.path == audit_file:
                self._work()
            opens(store)

        patched.setattr(SqliteStore, "append", appended)
        patched.setattr(SqliteStore, "open", opened)

    def _work(self) -> None:
        time.sleep(self.slow_s)
        if self.broken:
            raise OSError(28, "No space left on device")
