from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from app.audit.audit import Audit, audit_at
from app.audit.journal import RecordUnavailable
from app.audit.offline import entries_at, follow_at, migrate_at
from app.audit.query import Query
from app.audit.store import StoreFailed
from app.audit.verify import verify
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.audit.keys import CheckpointKeys, CheckpointSigner
    from app.audit.record import Record
    from tests.unit.audit.conftest import PostgresPlace, Server

pytestmark = pytest.mark.anyio

NOWHERE = "postgresql://audit:hunter2@/audit?host=/nonexistent"


@pytest.fixture
async def audit(postgres_url: str, signer: CheckpointSigner) -> AsyncIterator[Audit]:
    audit = audit_at(postgres_url, signer=signer, program="test")
    await audit.start()
    yield audit
    await audit.aclose()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - another thread's doing
            await asyncio.sleep(0.02)


async def read_whole(url: str, keys: CheckpointKeys) -> Any:
    def read() -> Any:
        stones, entries = entries_at(url)
        return verify(entries, keys=keys, tombstones=stones)

    return await asyncio.to_thread(read)


async def test_replicas_write_one_database_each_in_its_own_chain(
    postgres_url: str,
    signer: CheckpointSigner,
    keys: CheckpointKeys,
    record: Callable[..., Record],
) -> None:
    audits = [audit_at(postgres_url, signer=signer, program="test") for _ in range(3)]
    for one in audits:
        await one.start()
    kept = [record() for _ in range(300)]
    await asyncio.gather(*(audits[n % 3].journal.append(one) for n, one in enumerate(kept)))
    page = await audits[0].reader.query(Query(limit=1000), now=datetime.now(UTC))
    assert {one.id for one in page.records} == {one.id for one in kept}
    for one in audits:
        await one.aclose()
    verdict = await read_whole(postgres_url, keys)
    assert verdict.faults == ()
    assert [chain.closed for chain in verdict.chains] == [True] * 3


async def test_a_server_that_restarts_refuses_meanwhile_and_the_chain_goes_on(
    audit: Audit,
    postgres_server: Server,
    postgres_url: str,
    keys: CheckpointKeys,
    record: Callable[..., Record],
) -> None:
    await audit.journal.append(record())
    await asyncio.to_thread(postgres_server.stop)
    with pytest.raises(RecordUnavailable):
        await audit.journal.append(record())
    assert not audit.journal.healthy
    await asyncio.to_thread(postgres_server.start)
    await until(lambda: audit.journal.healthy)
    await audit.journal.append(record())
    verdict = await read_whole(postgres_url, keys)
    assert verdict.faults == ()
    assert len(verdict.chains) == 1


async def test_a_lost_connection_is_noticed_though_nobody_writes(
    audit: Audit, postgres_server: Server, postgres_url: str
) -> None:
    database = urlsplit(postgres_url).path[1:]
    opened = audit.journal.status().entries
    await asyncio.to_thread(
        postgres_server.execute,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        database,
    )
    await asyncio.sleep(1.5)
    await until(lambda: audit.journal.healthy)
    assert audit.journal.status().entries == opened


async def test_a_chain_that_another_process_went_on_with_is_left_alone(
    postgres_place: PostgresPlace, record: Callable[..., Record]
) -> None:
    def fork() -> None:
        writer = postgres_place.writer()
        before = writer.head
        writer.write(record())
        writer.head = before
        writer.write(record())

    with pytest.raises(StoreFailed, match="do not hold this process's chain"):
        await asyncio.to_thread(fork)


async def test_a_server_that_is_not_there_refuses_and_its_url_is_not_told(
    signer: CheckpointSigner, record: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    audit = audit_at(NOWHERE, signer=signer, program="test")
    await audit.start()
    with pytest.raises(RecordUnavailable) as refused:
        await audit.journal.append(record())
    with pytest.raises(StoreFailed):
        await audit.reader.query(Query(), now=datetime.now(UTC))
    await audit.aclose()
    said = f"{refused.value.detail} {capsys.readouterr().out} {audit.reader!r}"
    assert "hunter2" not in said


async def test_tables_that_were_not_migrated_are_a_refusal_to_start(
    postgres_server: Server, signer: CheckpointSigner
) -> None:
    audit = audit_at(postgres_server.url("postgres"), signer=signer, program="test")
    with pytest.raises(Misconfigured, match="token-broker migrate") as refused:
        await audit.start()
    assert refused.value.code == "audit-store-older"
    await audit.aclose()


async def test_tables_of_a_newer_program_are_a_refusal_to_start_and_to_migrate(
    postgres_server: Server, postgres_url: str, signer: CheckpointSigner
) -> None:
    database = urlsplit(postgres_url).path[1:]
    await asyncio.to_thread(
        postgres_server.execute, "UPDATE audit_schema SET version = 99", database
    )
    audit = audit_at(postgres_url, signer=signer, program="test")
    with pytest.raises(Misconfigured) as refused:
        await audit.start()
    assert refused.value.code == "audit-store-newer"
    await audit.aclose()
    with pytest.raises(Misconfigured):
        await asyncio.to_thread(migrate_at, postgres_url)


def test_a_migration_that_was_done_has_no_steps_left(postgres_url: str) -> None:
    assert migrate_at(postgres_url) == 0


async def test_weeks_that_are_too_old_are_dropped_by_the_keeper(
    postgres_place: PostgresPlace,
    signer: CheckpointSigner,
    keys: CheckpointKeys,
    record: Callable[..., Record],
) -> None:
    def write_long_ago() -> None:
        postgres_place.now = datetime.now(UTC) - timedelta(days=60)
        postgres_place.writer().write(record(time="2020-01-01T00:00:00.000000Z"))

    await asyncio.to_thread(write_long_ago)
    audit = audit_at(
        postgres_place.url, signer=signer, program="test", retention=timedelta(days=30)
    )
    await audit.start()
    await until(lambda: len(postgres_place_tombstones(postgres_place)) == 1)
    await audit.aclose()
    verdict = await read_whole(postgres_place.url, keys)
    assert verdict.faults == ()
    assert len(verdict.chains) == 1


def postgres_place_tombstones(place: PostgresPlace) -> list[Any]:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(place.tombstones).result()


async def test_what_is_written_from_now_on_can_be_followed(
    postgres_place: PostgresPlace, record: Callable[..., Record]
) -> None:
    def act() -> None:
        first, second = postgres_place.writer(), postgres_place.writer()
        first.write(record())
        rounds = [(second, 2), (first, 1)]

        def wait() -> bool:
            if not rounds:
                return True
            writer, count = rounds.pop()
            writer.write(*(record() for _ in range(count)))
            return False

        found = [(one.writer, one.seq) for one in follow_at(postgres_place.url, wait=wait)]
        assert found == [("writer-0", 3), ("writer-1", 2), ("writer-1", 3)]

    await asyncio.to_thread(act)


async def test_an_auditor_who_reads_keeps_nobody_from_writing_into_a_new_week(
    postgres_place: PostgresPlace, record: Callable[..., Record]
) -> None:
    import asyncpg

    writer = await asyncio.to_thread(postgres_place.writer)
    reading = await asyncpg.connect(postgres_place.url)
    async with reading.transaction():
        await reading.fetch("SELECT * FROM audit_entries, audit_accesses")
        postgres_place.now += timedelta(days=14)
        await asyncio.to_thread(writer.store.room_bytes)
        postgres_place.now += timedelta(days=14)
        await asyncio.to_thread(writer.write, record())
    await reading.close()
