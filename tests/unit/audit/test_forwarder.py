from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog

from app.audit import forwarder as forwarding
from app.audit.forwarder import Forwarder, SinkFailed
from app.audit.record import is_record, record_id
from app.audit.sqlite_feed import SqliteFeed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from app.audit.chain import Entry
    from app.audit.record import Record
    from tests.unit.audit.conftest import Place, SqlitePlace

    Made = Callable[..., Record]


class Taken:
    """A sink that keeps what it takes, and fails as often as it is told."""

    name = "taken"

    def __init__(self, *, failures: int = 0) -> None:
        self.batches: list[list[Entry]] = []
        self.failures = failures
        self.attempts = 0
        self.closed = False

    def send(self, entries: Sequence[Entry]) -> None:
        self.attempts += 1
        if self.failures:
            self.failures -= 1
            raise SinkFailed("it answered with status 503")
        self.batches.append(list(entries))

    def close(self) -> None:
        self.closed = True

    @property
    def entries(self) -> list[Entry]:
        return [entry for batch in self.batches for entry in batch]

    @property
    def ids(self) -> list[str]:
        return [record_id(entry.body) for entry in self.entries if is_record(entry.body)]


def feed_of(place: Any) -> Any:
    if hasattr(place, "path"):
        return SqliteFeed(place.path)
    from app.audit.postgres_feed import PostgresFeed

    return PostgresFeed(place.url)


def forwarder(place: Any, sink: Taken, **more: Any) -> Forwarder[Any]:
    quick = {"poll_s": 0.02, "retry_first_s": 0.01, "others_s": 0.02, "drain_s": 2.0}
    made: Forwarder[Any] = Forwarder(sink, feed_of(place), **(quick | more))
    made.start()
    return made


def until(true: Callable[[], bool]) -> None:
    due = time.monotonic() + 20
    while not true():
        assert time.monotonic() < due, "still not so"
        time.sleep(0.01)


def write(writer: Any, record: Made, count: int) -> list[str]:
    records = [record() for _ in range(count)]
    for each in records:
        writer.write(each)
    return [each.id for each in records]


def test_a_sink_gets_all_that_is_written_in_order(place: Place, record: Made) -> None:
    writer, sink = place.writer(), Taken()
    before = write(writer, record, 5)
    running = forwarder(place, sink)
    after = write(writer, record, 5)
    running.stop()
    assert sink.entries == place.entries()
    assert sink.ids == before + after
    assert sink.closed


def test_nothing_is_lost_and_hardly_anything_sent_twice_over_a_restart(
    place: Place, record: Made
) -> None:
    writer, first, second = place.writer(), Taken(), Taken()
    ids = write(writer, record, 5)
    forwarder(place, first).stop()
    ids += write(writer, record, 5)
    forwarder(place, second).stop()
    assert first.ids == ids[:5]
    sent_again = set(first.ids) & set(second.ids)
    assert [i for i in second.ids if i not in sent_again] == ids[5:]
    if hasattr(place, "path"):
        assert not sent_again


def test_a_sink_that_fails_gets_the_same_again_until_it_takes_it(
    place: Place, record: Made
) -> None:
    writer, sink = place.writer(), Taken(failures=3)
    ids = write(writer, record, 3)
    with structlog.testing.capture_logs() as lines:
        running = forwarder(place, sink)
        until(lambda: len(sink.ids) == 3)
        running.stop()
    assert sink.ids == ids
    assert [line["event"] for line in lines] == ["audit.sink_failed", "audit.sink_recovered"]
    assert lines[0]["reason"] == "it answered with status 503"


def test_a_process_that_ends_leaves_what_a_sink_did_not_take(place: Place, record: Made) -> None:
    writer, broken, whole = place.writer(), Taken(failures=10**6), Taken()
    ids = write(writer, record, 3)
    forwarder(place, broken, drain_s=0.1).stop()
    assert not broken.ids
    forwarder(place, whole).stop()
    assert whole.ids == ids


def test_one_of_several_processes_feeds_a_sink(place: Place, record: Made) -> None:
    writer, one, other = place.writer(), Taken(), Taken()
    first = forwarder(place, one)
    until(lambda: first.lag() is not None)
    second = forwarder(place, other)
    ids = write(writer, record, 3)
    until(lambda: len(one.ids) == 3)
    assert second.lag() is None
    first.stop()
    ids += write(writer, record, 3)
    until(lambda: set(ids) <= {*one.ids, *other.ids})
    second.stop()
    assert one.ids[:3] == ids[:3]
    assert other.ids[-3:] == ids[3:]


def test_a_lag_is_told(place: Place, record: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "BATCH_ENTRIES", 2)
    writer, sink = place.writer(), Taken(failures=10**6)
    write(writer, record, 6)
    running = forwarder(place, sink)
    until(lambda: (lag := running.lag()) is not None and lag.entries > 0)
    lag = running.lag()
    assert lag is not None
    assert (lag.sink, lag.entries) == ("taken", 7)
    assert lag.seconds >= 0
    sink.failures = 0
    until(lambda: running.lag() == ("taken", 0, 0.0))
    running.stop()
    assert all(len(batch) <= 2 for batch in sink.batches)


def test_a_batch_has_a_bound_in_bytes(
    sqlite_place: SqlitePlace, record: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "BATCH_BYTES", 1)
    write(sqlite_place.writer(), record, 4)
    sink = Taken()
    forwarder(sqlite_place, sink).stop()
    assert [len(batch) for batch in sink.batches] == [1] * 5


def test_another_file_in_its_place_is_followed_from_its_beginning(
    sqlite_place: SqlitePlace, record: Made
) -> None:
    write(sqlite_place.writer(), record, 8)
    sink = Taken()
    running = forwarder(sqlite_place, sink)
    until(lambda: len(sink.ids) == 8)
    sqlite_place.close()
    for file in sqlite_place.path.parent.glob("audit.db*"):
        if file.name in {"audit.db", "audit.db-wal", "audit.db-shm"}:
            file.unlink()
    ids = write(sqlite_place.writer(), record, 3)
    until(lambda: sink.ids[-3:] == ids)
    running.stop()


def test_a_store_that_is_not_there_yet_is_waited_for(
    sqlite_place: SqlitePlace, record: Made
) -> None:
    sink = Taken()
    with structlog.testing.capture_logs() as lines:
        running = forwarder(sqlite_place, sink)
        until(lambda: any(line["event"] == "audit.sink_failed" for line in lines))
        ids = write(sqlite_place.writer(), record, 3)
        until(lambda: len(sink.ids) == 3)
        running.stop()
    assert sink.ids == ids
