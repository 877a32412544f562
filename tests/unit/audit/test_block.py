from __future__ import annotations

import asyncio
from array import array
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit import block, postings
from app.audit.block import Block, build, pack
from app.audit.postings import BLOCK_ROWS, NO_TIME, OFFSET_MAX, block_rows, key_of, unpack
from app.audit.query import Query
from app.audit.record import (
    Identity,
    Part,
    Record,
    RecordIds,
    TableAccess,
    decode,
    encode,
    timestamp,
)
from app.audit.sqlite import SqliteStore, connect
from app.audit.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.unit.audit.conftest import SqlitePlace

NOON = datetime.fromisoformat("2026-10-14T12:00:00Z")
LATER = datetime.fromisoformat("2026-10-15T12:00:00Z")
FIRST, _ = block_rows(7)

NAMES = st.one_of(
    st.none(),
    st.sampled_from(["a", "b", "…", 'say "target":"x"', '","request_id":"', "\\", "]}"]),
    st.text(max_size=4),
)
ACCESSES = st.lists(
    st.builds(
        TableAccess,
        table=st.sampled_from(["accounts", "contacts"]),
        operation=st.sampled_from(["read", "update"]),
        columns=st.sampled_from([None, (), ("name",)]),
    ),
    max_size=2,
).map(tuple)
IDS = st.sampled_from([RecordIds().next(NOON + timedelta(milliseconds=n)) for n in range(5)])
RECORDS = st.builds(
    Record,
    phase=st.sampled_from(["outcome", "outcome", "intent"]),
    id=IDS,
    time=st.one_of(
        st.integers(0, 5).map(lambda n: timestamp(NOON + timedelta(milliseconds=n))),
        st.sampled_from(["", "yesterday", timestamp(NOON + timedelta(days=60))]),
    ),
    action=st.sampled_from(["proxy", "token"]),
    decision=st.sampled_from(["allowed", "refused"]),
    caller=NAMES,
    identity=st.one_of(st.none(), st.builds(Identity, kind=NAMES.map(str), subject=NAMES.map(str))),
    environment=NAMES,
    application=NAMES,
    target=NAMES,
    accesses=ACCESSES,
    status=st.sampled_from([None, 200, 204]),
    upstream_request_id=st.one_of(NAMES, IDS),
    request_id=st.one_of(NAMES, IDS),
    trace_id=NAMES,
    token_fingerprint=NAMES,
    parts=st.lists(
        st.builds(
            Part,
            method=st.just("GET"),
            target=st.just("accounts"),
            accesses=ACCESSES,
            decision=st.just("allowed"),
        ),
        max_size=1,
    ).map(tuple),
)


def built(records: Sequence[Record]) -> Block:
    return build(7, [(FIRST + place, encode(record)) for place, record in enumerate(records)])


def moment_of(record: Record) -> int:
    try:
        return int(datetime.fromisoformat(record.time).timestamp() * 1000)
    except ValueError:
        return 0


def terms_of(record: Record) -> set[str]:
    shape = postings.shape_of(postings.read_indexed(encode(record)))
    return postings.terms_of(shape)


def places_of(block: Block) -> dict[str, set[int]]:
    sets = {term: unpack(pack(places)) for term, places in block.postings.items()}
    return {
        term: {place for place in range(BLOCK_ROWS) if bits >> place & 1}
        for term, bits in sets.items()
    }


@given(records=st.lists(RECORDS, max_size=12))
def test_a_block_holds_what_reading_each_record_says(records: list[Record]) -> None:
    # Text is cleaned on its way to bytes, and only the bytes count.
    records = [decode(encode(record)) for record in records]
    found = built(records)
    outcomes = {place: one for place, one in enumerate(records) if one.phase == "outcome"}
    expected: dict[str, set[int]] = {}
    for place, one in outcomes.items():
        for term in terms_of(one):
            expected.setdefault(term, set()).add(place)
    assert places_of(found) == expected
    first_time = min((moment_of(one) for one in outcomes.values()), default=0)
    assert found.first_time == first_time
    assert found.last_time == max((moment_of(one) for one in records), default=0)
    times = array("I", found.times)
    for place in range(BLOCK_ROWS):
        if place in outcomes:
            assert times[place] == min(moment_of(outcomes[place]) - first_time, OFFSET_MAX)
        else:
            assert times[place] == NO_TIME
    assert found.finished == [one.id for one in outcomes.values()]


@given(records=st.lists(RECORDS, max_size=12))
def test_an_id_leads_to_each_of_its_records_by_time_or_by_key(records: list[Record]) -> None:
    records = [decode(encode(record)) for record in records]
    found = built(records)
    for place, one in enumerate(records):
        for text in {one.id, one.request_id} - {None} if one.phase == "outcome" else set():
            assert text is not None
            said = postings.moment_of_id(text) or 0
            told = [
                row
                for moment in range(said, said + postings.ID_SLACK_MS + 1)
                for row in postings.rows_at(7, found.times, found.first_time, moment)
            ]
            assert FIRST + place in told or (key_of(text), FIRST + place) in found.keys


def test_only_the_first_of_records_that_are_alike_is_read(
    record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    whole = postings.read_indexed

    def counted(body: bytes) -> Any:
        read.append(body)
        return whole(body)

    monkeypatch.setattr(postings, "read_indexed", counted)
    for usual in ({}, {"upstream_request_id": "0c5fd1b3-9d2a-4f6e-8f61-3a1b2c3d4e5f"}):
        read.clear()
        made = [record(status=200, target=f"accounts({n})", **usual) for n in range(5)]
        found = built([_same_request_id(one) for one in made])
        assert len(read) == 1
        assert places_of(found)["status=200"] == set(range(5))
        assert not found.keys


def test_likeness_is_not_seen_where_a_record_must_be_read(record: Callable[..., Record]) -> None:
    usual = record()
    assert block._likeness(encode(_same_request_id(usual))) is not None
    part = Part(method="GET", target="t", decision="allowed")
    for unusual in (
        usual,
        _same_request_id(record(caller='"')),
        _same_request_id(record(parts=(part,))),
    ):
        assert block._likeness(encode(unusual)) is None


def _same_request_id(record: Record) -> Record:
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Record(**(fields | {"request_id": record.id}))


@pytest.mark.parametrize(
    ("fields", "keyed"),
    [
        ({}, False),
        ({"time": "2026-10-14T12:00:00.001000Z"}, False),
        ({"time": "2026-10-14T12:00:00.002000Z"}, True),
        ({"time": "2026-10-14T11:59:59.999000Z"}, True),
        ({"time": "2026-12-14T12:00:00.000000Z"}, True),
        ({"time": "yesterday"}, True),
        ({"request_id": "the caller's own"}, True),
        ({"request_id": "…"}, True),
    ],
    ids=str,
)
@pytest.mark.usefixtures("small_blocks")
def test_a_record_is_found_by_its_ids(
    sqlite_place: SqlitePlace, record: Callable[..., Record], fields: dict[str, Any], *, keyed: bool
) -> None:
    writer = sqlite_place.writer()
    first = record()
    wanted = Record(**(_fields(first) | {"request_id": first.id} | fields))
    writer.write(wanted, *(record() for _ in range(100)))
    sqlite_place.index()
    assert _found(sqlite_place, wanted) == [wanted, [wanted], [wanted]]
    assert bool(_keys(sqlite_place)) is keyed


@pytest.mark.usefixtures("small_blocks")
def test_a_record_that_stands_under_another_time_is_found_by_its_ids(
    sqlite_place: SqlitePlace, record: Callable[..., Record]
) -> None:
    # Its clock is so far ahead that the block cannot tell its time.
    late = NOON + timedelta(days=60)
    id_ = RecordIds().next(late)
    wanted = record(id=id_, time=timestamp(late), request_id=id_)
    sqlite_place.writer().write(record(), wanted, *(record() for _ in range(100)))
    sqlite_place.index()
    assert _found(sqlite_place, wanted) == [wanted, [wanted], [wanted]]


@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_has_keys_for_all_gives_each_record_once(
    sqlite_place: SqlitePlace, record: Callable[..., Record]
) -> None:
    wanted = _same_request_id(record())
    sqlite_place.writer().write(wanted, *(record() for _ in range(100)))
    sqlite_place.index()
    connection = connect(sqlite_place.path)
    connection.execute("INSERT INTO keys VALUES (0, ?, 2)", (key_of(wanted.id),))
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = SqliteStore(sqlite_place.path)
    store.open()
    store.close()
    assert _found(sqlite_place, wanted) == [wanted, [wanted], [wanted]]


def _fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Record.__struct_fields__}


def _keys(place: SqlitePlace) -> list[Any]:
    connection = connect(place.path)
    keys = connection.execute("SELECT key FROM keys WHERE row = 2").fetchall()
    connection.close()
    return keys


def _found(place: SqlitePlace, wanted: Record) -> list[Any]:
    """By its id; by its request id; and by that among all of one caller."""

    async def ask() -> list[Any]:
        reader = SqliteReader(place.path)
        try:
            return [
                await reader.get(wanted.id, now=LATER),
                *[
                    list((await reader.query(query, now=LATER)).records)
                    for query in (
                        Query(request_id=wanted.request_id),
                        Query(request_id=wanted.request_id, caller=wanted.caller),
                    )
                ],
            ]
        finally:
            await reader.aclose()

    return asyncio.run(ask())
