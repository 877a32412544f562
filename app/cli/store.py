"""Where a command finds the record: the store of the settings, another one, or an export."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.audit.export import read_json_lines
from app.audit.offline import entries_at
from app.audit.url import is_postgres, need_asyncpg, sqlite_path
from app.cli.outcome import CouldNot
from app.cli.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.audit.chain import Entry, Tombstone
    from app.audit.store import RecordReader


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept: what stands for removed entries, and the entries as they stream in."""

    tombstones: list[Tombstone]
    entries: Iterator[Entry]


def audit_url(named: str | None) -> str:
    """As `--store` names it, else BROKER_AUDIT_URL. May hold a password: it is never shown."""
    return named or read_settings().audit_url.get_secret_value()


def existing(url: str) -> str:
    """Raises `CouldNot` for a file that is not there: reading makes none."""
    if not is_postgres(url) and not sqlite_path(url).exists():
        raise CouldNot(
            "audit-missing",
            f"{sqlite_path(url)}: no record is there; BROKER_AUDIT_URL or --store says where it is",
        )
    return url


@contextlib.contextmanager
def kept(store: str | None, export: Path | None) -> Iterator[Kept]:
    """Raises `StoreFailed`, also while the entries are read; `CouldNot` for what is no export."""
    if export is None:
        yield Kept(*entries_at(existing(audit_url(store))))
        return
    with export.open("rb") as lines:
        try:
            yield Kept(*read_json_lines(lines))
        except ValueError as error:
            raise CouldNot("export-unreadable", f"{export}: {error}") from error


def reader_at(url: str) -> RecordReader:
    """Answers to questions, without a broker. `aclose()` it."""
    if is_postgres(url):
        need_asyncpg()
        from app.audit.postgres_reader import PostgresReader  # noqa: PLC0415 - an extra

        return PostgresReader(url)
    from app.audit.sqlite_reader import SqliteReader  # noqa: PLC0415 - the other store's

    return SqliteReader(sqlite_path(existing(url)))
