from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from app.audit import chain
from app.audit.chain import Entry, Head
from app.audit.export import (
    CSV_COLUMNS,
    csv_lines,
    finished_records,
    json_lines,
    read_json_lines,
)
from app.audit.record import Identity, Part, Record, TableAccess, encode
from app.audit.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.audit.keys import CheckpointKeys, CheckpointSigner

NOON = datetime(2026, 10, 14, 12, tzinfo=UTC)


def chained(*records: Record) -> list[Entry]:
    opening, head = chain.open_chain(writer="w", time="now", program="test", follows=())
    entries, _ = chain.extend(head, [encode(record) for record in records])
    return [opening, *entries]


def test_an_export_comes_back_byte_for_byte_and_is_verified(
    record: Callable[..., Record], signer: CheckpointSigner, keys: CheckpointKeys
) -> None:
    entries = chained(record(reason='a "quoted" é'), record(), record())
    stone = chain.tombstone(Head("w", 2, entries[1].hash), time="now", before="now", signer=signer)
    lines = list(json_lines(entries[2:], [stone]))
    assert len(lines) == 3
    assert all(line.endswith(b"}\n") for line in lines)
    tombstones, back = read_json_lines(lines)
    assert tombstones == [stone]
    assert list(back) == entries[2:]
    assert verify(entries[2:], keys=keys, tombstones=tombstones).good


def test_an_altered_line_of_an_export_is_found(record: Callable[..., Record]) -> None:
    lines = list(json_lines(chained(record(caller="aaaa"), record())))
    lines[1] = lines[1].replace(b"aaaa", b"bbbb")
    _, back = read_json_lines(lines)
    assert [(f.kind, f.first) for f in verify(back).faults] == [("altered", 2)]


def test_an_empty_export_has_no_entries() -> None:
    tombstones, back = read_json_lines([])
    assert (tombstones, list(back)) == ([], [])


@pytest.mark.parametrize("bad", [b"nonsense\n", b'{"hash":"zz"}\n', b"[]\n"])
def test_a_line_that_is_no_export_is_named(record: Callable[..., Record], bad: bytes) -> None:
    with pytest.raises(ValueError, match="line 1"):
        read_json_lines([bad])
    lines = [*json_lines(chained(record())), bad]
    _, back = read_json_lines(lines)
    with pytest.raises(ValueError, match="line 3"):
        list(back)


def test_a_request_is_one_record_and_those_without_an_outcome_come_last(
    record: Callable[..., Record],
) -> None:
    done = record(outcome="completed")
    killed = record(phase="intent")
    refused = record(decision="refused")
    entries = chained(record(phase="intent", id=done.id), killed, done, refused)
    found = list(finished_records(entries, now=NOON + timedelta(days=1)))
    assert [one.id for one in found] == [done.id, refused.id, killed.id]
    assert [one.outcome for one in found] == ["completed", None, "interrupted"]


def test_a_line_of_csv_holds_every_field(record: Callable[..., Record]) -> None:
    whole = record(
        identity=Identity(kind="api_key", subject="k1"),
        accesses=(
            TableAccess(table="accounts", operation="read", columns=("name", "city")),
            TableAccess(table="invoices", operation="create", columns=None),
        ),
        parts=(Part(method="GET", target="accounts", decision="allowed"),),
        status=200,
        reason="=cmd()",
    )
    header, line = csv.reader(io.StringIO("".join(csv_lines([whole]))))
    assert header == list(CSV_COLUMNS)
    cells = dict(zip(header, line, strict=True))
    assert {name: cell for name, cell in cells.items() if cell} == {
        "id": whole.id,
        "time": whole.time,
        "action": "proxy",
        "decision": "allowed",
        "reason": "'=cmd()",
        "caller": "invoice-loader",
        "identity_kind": "api_key",
        "identity_subject": "k1",
        "environment": "contoso",
        "accesses": "read accounts(name,city); create invoices(*)",
        "status": "200",
        "parts": "GET accounts allowed",
    }
