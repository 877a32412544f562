"""An audit file, as sinks are fed from it: how far each is stands in a small file beside it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.audit.sqlite_entries import newest_row, read_entries
from app.audit.sqlite_turn import alone
from app.audit.store import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.audit.chain import Entry


@dataclass(frozen=True, slots=True)
class SqliteFeed:
    path: Path
    poll_s: float = 0.5

    @contextlib.contextmanager
    def following(self, sink: str) -> Iterator[SqliteFollowing | None]:
        stem = f"{self.path.name}-sink-{sink}"
        with alone(self.path.with_name(f"{stem}.lock")) as chosen:
            if not chosen:
                yield None
                return
            place = self.path.with_name(f"{stem}.row")
            yield SqliteFollowing(self.path, place, _resumed(self.path, place))


@dataclass(frozen=True, slots=True)
class SqliteFollowing:
    path: Path
    place: Path
    start: int

    def read(self, after: int, /) -> Iterator[tuple[int, Entry]]:
        return read_entries(self.path, after_row=after)

    def overlap(self, place: int, /) -> int:
        """One writes at a time, so rows come in order."""
        return place

    def behind(self, place: int, /) -> int:
        """Below 0 where the file is another one than before."""
        return newest_row(self.path) - place

    def keep(self, place: int, /) -> None:
        draft = self.place.with_suffix(".new")
        try:
            with draft.open("w", encoding="ascii") as file:
                file.write(f"{place}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.place)
        except OSError as error:
            raise StoreFailed(
                f"{self.place.name} beside the audit file cannot be written: {error.strerror}"
            ) from error


def _resumed(path: Path, place: Path) -> int:
    """After what was taken; all of it where nothing says so, or another file lies there."""
    try:
        row = int(place.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return row if row <= newest_row(path) else 0
