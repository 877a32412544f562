"""What every kind of store must do; each test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.audit import chain
from app.audit.query import Query, matches
from app.audit.record import Record, TableAccess
from app.audit.verify import verify
from app.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.audit.keys import CheckpointKeys, CheckpointSigner
    from app.audit.query import Page
    from app.audit.verdict import Verdict
    from tests.unit.audit.conftest import Place

LATER = datetime.fromisoformat("2026-10-15T12:00:00Z")


class Auditor:
    """Asks one reader, on a loop of his own: the stores' writing sides block."""

    def __init__(self, place: Place) -> None:
        self._runner = asyncio.Runner()
        self._reader = place.reader()

    def page(self, now: datetime = LATER, **filters: Any) -> Page:
        return self._runner.run(self._reader.query(Query(**filters), now=now))

    def get(self, record_id: str, now: datetime = LATER) -> Record | None:
        return self._runner.run(self._reader.get(record_id, now=now))

    def walk(self, **filters: Any) -> list[Record]:
        records: list[Record] = []
        cursor = None
        while True:
            page = self.page(cursor=cursor, **filters)
            records += page.records
            cursor = page.cursor
            if cursor is None:
                return records

    def close(self) -> None:
        self._runner.run(self._reader.aclose())
        self._runner.close()


@pytest.fixture
def auditor(place: Place) -> Iterator[Auditor]:
    auditor = Auditor(place)
    yield auditor
    auditor.close()


def verdict(place: Place, keys: CheckpointKeys) -> Verdict:
    stones = place.tombstones()
    return verify(place.entries(), keys=keys, tombstones=stones)


def intent_of(record: Record) -> Record:
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Record(**(fields | {"phase": "intent", "status": None}))


def interrupted(record: Record) -> Record:
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Record(**(fields | {"outcome": "interrupted"}))


def test_records_are_answered_newest_first(
    place: Place, auditor: Auditor, record: Callable[..., Record]
) -> None:
    kept = [record() for _ in range(5)]
    place.writer().write(*kept)
    page = auditor.page()
    assert list(page.records) == kept[::-1]
    assert page.cursor is None


def test_an_intent_and_its_outcome_are_one_record(
    place: Place, auditor: Auditor, record: Callable[..., Record]
) -> None:
    done = record(outcome="completed", status=200)
    place.writer().write(intent_of(done), done)
    assert auditor.walk() == [done]
    assert auditor.get(done.id) == done


@pytest.mark.parametrize(("age", "word"), [(59, "open"), (61, "interrupted")])
def test_an_intent_without_an_outcome_is_open_and_after_an_hour_interrupted(
    place: Place, auditor: Auditor, record: Callable[..., Record], age: int, word: str
) -> None:
    intent = record(phase="intent")
    place.writer().write(intent)
    now = datetime.fromisoformat(intent.time) + timedelta(minutes=age)
    assert [found.outcome for found in auditor.page(now=now).records] == [word]
    found = auditor.get(intent.id, now=now)
    assert found is not None
    assert found.outcome == word


@pytest.mark.parametrize("wanted", ["00000000-0000-7000-8000-000000000000", "nonsense", "%"])
def test_a_record_that_is_not_there_is_none(place: Place, auditor: Auditor, wanted: str) -> None:
    place.writer()
    assert auditor.get(wanted) is None


def mixture(record: Callable[..., Record], count: int, seed: int) -> list[Record]:
    """Records of every kind in the order in which they would be written."""
    dice = random.Random(seed)  # noqa: S311 - test data
    rows: list[Record] = []
    unfinished: list[Record] = []
    for _ in range(count):
        made = record(
            caller=dice.choice(["a", "b", "c", None]),
            environment=dice.choice(["contoso", "fabrikam"]),
            application=dice.choice(["erp", None]),
            action=dice.choice(["proxy", "token", "admin"]),
            decision=dice.choice(["allowed", "refused", "error"]),
            status=dice.choice([200, 204, 403, None]),
            request_id=dice.choice([None, f"request-{dice.randrange(50)}"]),
            accesses=tuple(
                TableAccess(
                    table=dice.choice(["accounts", "contacts", "invoices"]),
                    operation=dice.choice(["read", "update"]),
                    columns=None,
                )
                for _ in range(dice.randrange(3))
            ),
        )
        match dice.randrange(4):
            case 0:
                rows.append(made)
            case 1:
                unfinished.append(made)
                rows.append(intent_of(made))
            case _:
                rows += [intent_of(made), made]
        if unfinished and dice.random() < 0.2:
            rows.append(unfinished.pop(dice.randrange(len(unfinished))))
    return rows


def expected(rows: list[Record], query: Query) -> list[Record]:
    """The plain way to answer, without an index."""
    finished = {row.id for row in rows if row.phase == "outcome"}
    shown = [
        row if row.phase == "outcome" else interrupted(row)
        for row in reversed(rows)
        if row.phase == "outcome" or row.id not in finished
    ]
    return [row for row in shown if matches(query, row)]


QUERIES: list[dict[str, Any]] = [
    {},
    {"caller": "a"},
    {"caller": "nobody"},
    {"environment": "fabrikam"},
    {"application": "erp"},
    {"action": "token"},
    {"decision": "refused"},
    {"status": 403},
    {"table": "accounts"},
    {"operation": "update"},
    {"table": "accounts", "operation": "update"},
    {"request_id": "request-7"},
    {"request_id": "request-7", "caller": "a"},
    {"caller": "b", "status": 204, "table": "contacts"},
    {"since": datetime.fromisoformat("2026-10-14T12:01:40Z")},
    {"until": datetime.fromisoformat("2026-10-14T12:01:40Z")},
    {
        "caller": "c",
        "since": datetime.fromisoformat("2026-10-14T12:02:11Z"),
        "until": datetime.fromisoformat("2026-10-14T12:03:17Z"),
    },
]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not indexed"])
@pytest.mark.parametrize("filters", QUERIES, ids=lambda filters: ",".join(filters) or "all")
def test_an_index_answers_as_reading_everything_would(
    place: Place,
    auditor: Auditor,
    record: Callable[..., Record],
    filters: dict[str, Any],
    *,
    indexed: bool,
) -> None:
    rows = mixture(record, 300, seed=len(str(filters)))
    writer = place.writer()
    for start in range(0, len(rows), 50):
        writer.write(*rows[start : start + 50])
        if indexed:
            place.index()
    if indexed:
        assert auditor.page().unindexed < 32
    assert auditor.walk(limit=7, **filters) == expected(rows, Query(**filters))


def test_a_walk_is_not_disturbed_by_what_is_written_meanwhile(
    place: Place, auditor: Auditor, record: Callable[..., Record]
) -> None:
    kept = [record() for _ in range(6)]
    writer = place.writer()
    writer.write(*kept)
    first = auditor.page(limit=3)
    writer.write(record(), record())
    second = auditor.page(limit=3, cursor=first.cursor)
    assert [*first.records, *second.records] == kept[::-1]


def test_a_record_that_took_hours_is_found_by_the_time_it_came(
    place: Place, auditor: Auditor, record: Callable[..., Record]
) -> None:
    long_ago = record(time="2026-10-14T09:00:00.000000Z")
    usual = record()
    place.writer().write(usual, long_ago)
    since = datetime.fromisoformat("2026-10-14T08:59:00Z")
    assert auditor.walk(until=since + timedelta(minutes=2)) == [long_ago]
    assert auditor.walk(since=since, until=LATER) == [long_ago, usual]


def test_a_cursor_of_other_filters_is_unreadable(
    place: Place, auditor: Auditor, record: Callable[..., Record]
) -> None:
    place.writer().write(record(), record())
    page = auditor.page(limit=1)
    for cursor, caller in ((page.cursor, "a"), ("!", None), ("AAAA", None)):
        with pytest.raises(Unreadable) as refused:
            auditor.page(limit=1, caller=caller, cursor=cursor)
        assert refused.value.code == "cursor-invalid"


def test_a_second_chain_names_the_first(place: Place, record: Callable[..., Record]) -> None:
    first = place.writer()
    first.write(record())
    place.writer()
    opening = chain.decode_note(place.entries()[-1].body)
    assert isinstance(opening, chain.Opening)
    assert opening.writer == "writer-1"
    assert [(link.writer, link.count, link.head) for link in opening.follows] == [
        ("writer-0", 2, first.head.hash.hex())
    ]


def test_a_writer_finds_its_head_again(place: Place, record: Callable[..., Record]) -> None:
    writer = place.writer()
    writer.write(*(record() for _ in range(3)))
    writer.store.open()
    assert writer.store.head("writer-0") == writer.head
    assert writer.store.head("nobody") is None
    writer.write(record())
    assert writer.head.seq == 5


def test_a_large_batch_is_stored_whole(
    place: Place, record: Callable[..., Record], keys: CheckpointKeys
) -> None:
    place.writer().write(*(record() for _ in range(1000)))
    assert len(place.entries()) == 1001
    assert verdict(place, keys).good


def test_entries_come_in_the_order_of_their_chains(
    place: Place, record: Callable[..., Record], keys: CheckpointKeys
) -> None:
    first, second = place.writer(), place.writer()
    for _ in range(50):
        first.write(record(), record())
        second.write(record())
    found = verdict(place, keys)
    assert found.faults == ()
    assert [(summary.writer, summary.last) for summary in found.chains] == [
        ("writer-0", 101),
        ("writer-1", 51),
    ]


def test_retention_signs_for_what_it_removes(
    place: Place,
    auditor: Auditor,
    record: Callable[..., Record],
    signer: CheckpointSigner,
    keys: CheckpointKeys,
) -> None:
    first, second = place.writer(), place.writer()
    for _ in range(60):
        first.write(*(record() for _ in range(80)))
        second.write(*(record() for _ in range(20)))
    place.index()
    before = len(place.entries())
    assert place.retire(datetime.fromisoformat("2026-10-14T00:00:00Z"), signer) == 0
    assert place.retire(datetime.fromisoformat("2026-10-20T00:00:00Z"), signer) == 1
    assert len(place.entries()) < before
    stones = place.tombstones()
    assert {stone.writer for stone in stones} == {"writer-0", "writer-1"}
    assert verdict(place, keys).faults == ()
    first.write(record())
    assert verdict(place, keys).faults == ()
    found = auditor.walk(limit=1000)
    assert len(found) == len(place.entries()) == before + 1 - sum(stone.through for stone in stones)
