"""The audit as text: JSON lines that can be verified, CSV for people. Both stream."""

from __future__ import annotations

import csv
import io
from itertools import chain as joined
from typing import TYPE_CHECKING, Any, Final

import msgspec

from app.audit.chain import Entry, Tombstone
from app.audit.query import unfinished
from app.audit.record import RECORD_FIELDS, Identity, Record, decode, is_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime


class _Line(msgspec.Struct, omit_defaults=True):
    """One line: an entry whose body is kept byte for byte, or a tombstone."""

    writer: str = ""
    seq: int = 0
    hash: str = ""
    entry: msgspec.Raw = msgspec.Raw(b"")
    tombstone: Tombstone | None = None


_encode = msgspec.json.Encoder().encode
_lines: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


def json_lines(entries: Iterable[Entry], tombstones: Iterable[Tombstone] = ()) -> Iterator[bytes]:
    """Everything, each line with its line end. `read_json_lines` gives it back for `verify`."""
    for tombstone in tombstones:
        yield _encode(_Line(tombstone=tombstone)) + b"\n"
    for writer, seq, body, hash_ in entries:
        line = _Line(writer=writer, seq=seq, hash=hash_.hex(), entry=msgspec.Raw(body))
        yield _encode(line) + b"\n"


def read_json_lines(lines: Iterable[bytes]) -> tuple[list[Tombstone], Iterator[Entry]]:
    """An export's tombstones, and its entries as they stream in.

    Raises `ValueError` with the line's number for what is no export.
    """
    numbered = enumerate(lines, 1)
    tombstones: list[Tombstone] = []
    for number, text in numbered:
        line = _read(number, text)
        if line.tombstone is None:
            return tombstones, joined([_entry(number, line)], _entries(numbered))
        tombstones.append(line.tombstone)
    return tombstones, iter(())


def _entries(numbered: Iterator[tuple[int, bytes]]) -> Iterator[Entry]:
    for number, text in numbered:
        yield _entry(number, _read(number, text))


def _read(number: int, text: bytes) -> _Line:
    try:
        return _lines.decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError(f"line {number}: not a line of an audit export") from error


def _entry(number: int, line: _Line) -> Entry:
    try:
        return Entry(line.writer, line.seq, bytes(line.entry), bytes.fromhex(line.hash))
    except ValueError as error:
        raise ValueError(f"line {number}: hash: not hexadecimal") from error


def finished_records(entries: Iterable[Entry], *, now: datetime) -> Iterator[Record]:
    """One record a request: outcomes as they come, then the intents that have none."""
    intents: dict[str, Record] = {}
    for entry in entries:
        if not is_record(entry.body):
            continue
        record = decode(entry.body)
        if record.phase == "intent":
            intents[record.id] = record
        else:
            intents.pop(record.id, None)
            yield record
    for intent in intents.values():
        yield unfinished(intent, now)


CSV_COLUMNS: Final = tuple(
    column
    for field in RECORD_FIELDS
    for column in (("identity_kind", "identity_subject") if field == "identity" else (field,))
)


def csv_lines(records: Iterable[Record]) -> Iterator[str]:
    """A header, then a line for each record; what is a list stands as text in one cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for row in joined([CSV_COLUMNS], map(_cells, records)):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _cells(record: Record) -> list[str]:
    cells: list[str] = []
    for field in RECORD_FIELDS:
        value = getattr(record, field)
        if field == "identity":
            identity: Identity | None = value
            cells += (
                ("", "") if identity is None else (_cell(identity.kind), _cell(identity.subject))
            )
        elif field == "accesses":
            cells.append(_cell("; ".join(_access(access) for access in record.accesses)))
        elif field == "parts":
            cells.append(_cell("; ".join(f"{p.method} {p.target} {p.decision}" for p in value)))
        else:
            cells.append(_cell(value))
    return cells


def _access(access: Any) -> str:
    columns = "*" if access.columns is None else ",".join(access.columns)
    return f"{access.operation} {access.table}({columns})"


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    # A spreadsheet takes these for formulas.
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t")) else text
