"""`token-broker audit export`: everything as JSON lines that verify, or as CSV for people."""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from app.audit.export import csv_lines, finished_records, json_lines
from app.audit.query import Query, matches
from app.cli.outcome import CouldNot
from app.cli.progress import counted
from app.cli.store import kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

    from app.cli.store import Kept


def export_record(
    wanted: Query,
    *,
    store: str | None,
    export: Path | None,
    form: Literal["jsonl", "csv"],
    output: Path | None,
) -> None:
    """Streams: neither the store nor the export is ever held whole. Raises `StoreFailed`."""
    if form == "jsonl" and wanted != Query(limit=wanted.limit):
        raise CouldNot(
            "export-in-part", "JSON lines are for verification, so all of them: filter with csv"
        )
    with kept(store, export) as found, _opened(output) as file:
        for line in _jsonl(found) if form == "jsonl" else _csv(found, wanted):
            file.write(line)


def _jsonl(found: Kept) -> Iterator[bytes]:
    return json_lines(counted(found.entries, "entries exported"), found.tombstones)


def _csv(found: Kept, wanted: Query) -> Iterator[bytes]:
    entries = counted(found.entries, "entries read")
    records = finished_records(entries, now=datetime.now(UTC))
    lines = csv_lines(record for record in records if matches(wanted, record))
    return (line.encode() for line in lines)


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    with output.open("wb") as file:
        yield file
