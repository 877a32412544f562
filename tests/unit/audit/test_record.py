from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.record import (
    ITEMS_MAX,
    RECORD_FIELDS,
    TEXT_MAX,
    Identity,
    Part,
    Record,
    RecordIds,
    TableAccess,
    clean,
    decode,
    encode,
    is_record,
    record_id,
    table_accesses,
    timestamp,
)
from app.config.model import Operation
from app.odata.access import ALL, Access

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 10, 14, 12, tzinfo=UTC)


def test_a_record_has_these_fields() -> None:
    assert RECORD_FIELDS == (
        "id",
        "time",
        "action",
        "decision",
        "outcome",
        "reason",
        "caller",
        "identity",
        "client_address",
        "environment",
        "application",
        "method",
        "target",
        "accesses",
        "status",
        "upstream_status",
        "upstream_request_id",
        "request_id",
        "trace_id",
        "duration_ms",
        "upstream_ms",
        "bytes_in",
        "bytes_out",
        "token_fingerprint",
        "parts",
    )


def test_a_record_comes_back_from_its_bytes(record: Callable[..., Record]) -> None:
    whole = record(
        identity=Identity(kind="api_key", subject="k1"),
        accesses=(TableAccess(table="accounts", operation="read", columns=("name",)),),
        parts=(Part(method="GET", target="accounts", decision="refused", status=403),),
        duration_ms=1.25,
    )
    body = encode(whole)
    assert decode(body) == whole
    assert is_record(body)
    assert record_id(body) == whole.id


def test_the_bytes_of_a_record_are_these(record: Callable[..., Record]) -> None:
    whole = record(
        phase="intent",
        id="0199e2a0-0000-7000-8000-000000000001",
        accesses=(TableAccess(table="accounts", operation="read", columns=None),),
    )
    assert encode(whole) == (
        b'{"phase":"intent","id":"0199e2a0-0000-7000-8000-000000000001",'
        b'"time":"2026-10-14T12:00:00.000000Z","action":"proxy","decision":"allowed",'
        b'"caller":"invoice-loader","environment":"contoso",'
        b'"accesses":[{"table":"accounts","operation":"read","columns":null}]}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nb",
        "\x1b[31mred",
        *("\x00", "\x7f", "\x9b31m", "\u202eevil", "\u2028", "\ud800"),
        # Its bytes begin and end as those of the mark do; and it stands among marks.
        *("\u2066", "…\u2066…", "…\x9b…", "\u2066…", "…\u2066"),
    ],
    ids=ascii,
)
def test_control_characters_arrive_as_harmless_text(
    record: Callable[..., Record], text: str
) -> None:
    kept = decode(encode(record(caller=text, target=f"accounts?{text}")))
    assert kept.caller is not None
    assert kept.caller.isprintable()
    assert kept.target is not None
    assert kept.target.isprintable()
    assert "…" in kept.target


def test_64_kilobytes_are_cut_with_a_mark(record: Callable[..., Record]) -> None:
    huge = "x" * 65536
    kept = decode(
        encode(
            record(
                caller=huge,
                reason=huge,
                identity=Identity(kind=huge, subject=huge),
                accesses=(TableAccess(table=huge, operation="read", columns=(huge,) * 2000),) * 3,
                parts=(Part(method=huge, target=huge, decision="refused"),) * 2000,
            )
        )
    )
    assert kept.caller is not None
    assert len(kept.caller) == TEXT_MAX
    assert kept.caller.endswith("x…")
    columns = kept.accesses[0].columns
    assert columns is not None
    assert len(columns) == ITEMS_MAX + 1
    assert columns[-1] == "…"
    assert len(kept.parts) == ITEMS_MAX


@given(caller=st.text(st.characters(exclude_categories=[])), reason=st.text(), table=st.text())
def test_whatever_the_text_a_record_is_one_printable_line(
    caller: str, reason: str, table: str
) -> None:
    body = encode(
        Record(
            phase="outcome",
            id="0199e2a0-0000-7000-8000-000000000001",
            time="2026-10-14T12:00:00.000000Z",
            action="proxy",
            decision="refused",
            caller=caller,
            reason=reason,
            accesses=(TableAccess(table=table, operation="read", columns=(table,)),),
        )
    )
    assert body.decode().isprintable()
    # Bytes to record to bytes is the same: what is hashed does not depend on who wrote it.
    assert encode(decode(body)) == body
    assert msgspec.json.decode(body)["phase"] == "outcome"


def test_a_short_text_is_left_alone_and_one_over_is_cut() -> None:
    assert clean("x" * TEXT_MAX) == "x" * TEXT_MAX
    assert clean("x" * (TEXT_MAX + 1)) == "x" * (TEXT_MAX - 1) + "…"


def test_accesses_are_recorded_in_one_order_and_all_columns_as_null() -> None:
    one = Access("invoices", Operation.READ, frozenset({"name", "amount"}))
    other = Access("accounts", Operation.APPEND_TO, ALL)
    recorded = table_accesses([one, other])
    assert recorded == table_accesses([other, one])
    assert recorded == (
        TableAccess(table="accounts", operation="append_to", columns=None),
        TableAccess(table="invoices", operation="read", columns=("amount", "name")),
    )


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOON, "2026-10-14T12:00:00.000000Z"),
        (NOON.astimezone(timezone(timedelta(hours=2))), "2026-10-14T12:00:00.000000Z"),
    ],
)
def test_a_timestamp_is_utc_in_microseconds(moment: datetime, text: str) -> None:
    assert timestamp(moment) == text


@given(moment=st.datetimes(timezones=st.just(UTC)))
def test_a_timestamp_reads_as_the_moment_that_it_is_of(moment: datetime) -> None:
    assert timestamp(moment) == moment.isoformat(timespec="microseconds")[:-6] + "Z"


def test_ids_are_uuids_of_version_7_and_rise() -> None:
    ids = RecordIds()
    made = [ids.next(NOON + timedelta(microseconds=300 * step)) for step in range(1000)]
    assert made == sorted(set(made))
    parsed = [uuid.UUID(one) for one in made]
    assert {(one.version, one.variant) for one in parsed} == {(7, uuid.RFC_4122)}
    assert parsed[0].int >> 80 == int(NOON.timestamp() * 1000)
    assert [str(one) for one in parsed] == made


def test_a_clock_that_goes_back_brings_no_older_ids() -> None:
    ids = RecordIds()
    first = ids.next(NOON)
    assert ids.next(NOON - timedelta(hours=1)) > first


def test_ids_rise_when_a_millisecond_runs_out_of_numbers() -> None:
    ids = RecordIds()
    first = ids.next(NOON)
    ids._tail = (1 << 74) - 1
    assert ids.next(NOON) > first
    assert ids.next(NOON) > first
