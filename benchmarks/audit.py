"""Rates of the audit: keeping records, proving them, finding them. One run, one table.

    python benchmarks/audit.py                    the journal and the verification
    python benchmarks/audit.py --query 10000000   pages among so many records (makes them first)
    … --url postgresql://…                        the same in PostgreSQL, on migrated empty tables

The machine is shared and noisy: compare only inside one run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.audit import chain, sqlite_index
from app.audit.audit import audit_at
from app.audit.export import json_lines, read_json_lines
from app.audit.keys import CheckpointKeys, CheckpointSigner
from app.audit.offline import entries_at
from app.audit.postgres import PostgresStore
from app.audit.query import Query
from app.audit.record import Identity, Record, RecordIds, TableAccess, encode, timestamp
from app.audit.sqlite import SqliteStore, connect
from app.audit.sqlite_index import advance
from app.audit.url import is_postgres, sqlite_path
from app.audit.verify import verify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from app.audit.store import JournalStore, RecordReader

SIGNER = CheckpointSigner(Ed25519PrivateKey.generate())
KEYS = CheckpointKeys([SIGNER.public_key])
START = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = [f"new_table{number:03}s" for number in range(300)]
CALLERS = [f"service-{number:03}" for number in range(100)]


def record(ids: RecordIds, now: datetime, dice: random.Random, **fields: Any) -> Record:
    """A record as a proxied read leaves it."""
    table = TABLES[min(int(dice.expovariate(0.05)), 299)]
    id_ = ids.next(now)
    whole: dict[str, Any] = {
        "phase": "outcome",
        "id": id_,
        "time": timestamp(now),
        "action": "proxy",
        "decision": "allowed",
        "outcome": "completed",
        "caller": CALLERS[min(int(dice.expovariate(0.1)), 99)],
        "identity": Identity(kind="api_key", subject="k7f3a9"),
        "client_address": "10.20.30.40",
        "environment": "contoso" if dice.random() < 0.9 else "fabrikam",
        "application": "erp-invoices",
        "method": "GET",
        "target": f"{table}(11111111-2222-4333-8444-555555555555)?$select=…",
        "accesses": (TableAccess(table=table, operation="read", columns=("name", "revenue")),),
        "status": 200,
        "upstream_status": 200,
        "upstream_request_id": "0c5fd1b3-9d2a-4f6e-8f61-3a1b2c3d4e5f",
        "request_id": id_,
        "duration_ms": 12.345,
        "upstream_ms": 11.012,
        "bytes_in": 0,
        "bytes_out": 2048,
        "token_fingerprint": "9f86d081884c7d65",
    }
    return Record(**(whole | fields))


async def journal_rates(url: str, folder: Path, seconds: float) -> None:
    fdatasync_us = measure_fdatasync(folder) * 1e6
    print(f"fdatasync of an append: {fdatasync_us:.0f} µs")
    print(
        f"SQLite, a commit for each record and nothing else: {commit_each(folder):,.0f} records/s"
    )
    print(f"\nJournal into {url.partition(':')[0]}: whoever waits appends again")
    print("waiting  records/s  CPU µs/record  records/flush  p50 ms  p99 ms  of a fdatasync")
    for waiting in (1, 4, 16, 64, 256):
        audit = audit_at(url, signer=SIGNER, program="benchmark")
        await audit.start()
        dice, ids = random.Random(1), RecordIds()  # noqa: S311
        kept = [record(ids, START, dice) for _ in range(64)]
        waits: list[float] = []
        until = time.perf_counter() + seconds

        async def append_on_and_on() -> None:
            number = 0
            while (began := time.perf_counter()) < until:  # noqa: B023 - awaited in this round
                number += 1
                await audit.journal.append(kept[number & 63])  # noqa: B023
                waits.append(time.perf_counter() - began)  # noqa: B023

        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(append_on_and_on() for _ in range(waiting)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        status = audit.journal.status()
        cuts = statistics.quantiles(waits, n=100)
        print(
            f"{waiting:7}  {len(waits) / took:9,.0f}  {cpu / len(waits) * 1e6:13.1f}"
            f"  {len(waits) / status.flushes:13.1f}  {cuts[49] * 1e3:6.2f}  {cuts[98] * 1e3:6.2f}"
            f"  {cuts[49] * 1e6 / fdatasync_us:8.1f}x"
        )
        await audit.aclose()


def commit_each(folder: Path) -> float:
    """Records a second when each has a transaction of its own: what there is to beat."""
    connection = connect(folder / "each.db")
    connection.execute("CREATE TABLE entries (row INTEGER PRIMARY KEY, body BLOB)")
    body, count = bytes(750), 2000
    began = time.perf_counter()
    for _ in range(count):
        connection.execute("INSERT INTO entries (body) VALUES (?)", (body,))
    took = time.perf_counter() - began
    connection.close()
    return count / took


def measure_fdatasync(folder: Path) -> float:
    file = os.open(folder / "fdatasync", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    times = []
    for _ in range(500):
        os.write(file, bytes(600))
        began = time.perf_counter()
        os.fdatasync(file)
        times.append(time.perf_counter() - began)
    os.close(file)
    return statistics.median(times)


def verify_rates(url: str) -> None:
    print("\nVerification")
    cpu = time.process_time()
    verdict = verify(entries_at(url)[1], keys=KEYS)
    took = time.process_time() - cpu
    assert verdict.good, verdict.faults
    print(f"from the store: {verdict.entries / took:10,.0f} entries/s of CPU ({verdict.entries:,})")
    lines = list(json_lines(entries_at(url)[1]))
    cpu = time.process_time()
    verdict = verify(read_json_lines(lines)[1], keys=KEYS)
    took = time.process_time() - cpu
    assert verdict.good
    print(f"from an export: {verdict.entries / took:10,.0f} entries/s of CPU")


def made_records(count: int) -> Iterator[Record]:
    """A month of requests; one in fifty refused, one in two hundred failed."""
    dice, ids = random.Random(2), RecordIds()  # noqa: S311
    step = timedelta(days=30) / count
    for number in range(count):
        fields: dict[str, Any] = {}
        luck = dice.random()
        if luck < 0.02:
            fields = {"decision": "refused", "status": 403, "reason": "table-not-granted"}
        elif luck < 0.025:
            fields = {"decision": "error", "status": 502, "outcome": "upstream_failed"}
        elif luck < 0.2:
            fields = {"status": 204, "method": "PATCH"}
        yield record(ids, START + number * step, dice, **fields)


def fill(url: str, count: int) -> None:
    sqlite_index._PAUSES = 0  # noqa: SLF001 - nobody else wants the GIL here
    file = None if is_postgres(url) else SqliteStore(sqlite_path(url))
    clock = [START]
    store: JournalStore = file or PostgresStore(url, now=lambda: clock[-1])
    store.open()
    made: list[chain.Head] = []

    def opening(heads: tuple[chain.Head, ...]) -> chain.Entry:
        entry, head = chain.open_chain(writer="w", time="now", program="b", follows=heads)
        made.append(head)
        return entry

    store.begin(opening)
    index = connect(file.path) if file is not None else None
    head: chain.Head = made[0]
    batch: list[bytes] = []
    # In PostgreSQL a record's place is when it was written: not long after its request.
    size = 4096 if file is not None else max(count * 30 // (30 * 86400), 1)
    began, indexing = time.perf_counter(), 0.0
    for number, one in enumerate(made_records(count), 1):
        batch.append(encode(one))
        if len(batch) == size or number == count:
            clock[-1] = datetime.fromisoformat(one.time)
            store.room_bytes()
            entries, head = chain.extend(head, batch)
            store.append(entries)
            batch.clear()
            start = time.thread_time()
            while file is not None and index is not None and advance(index, file.turn):
                pass
            indexing += time.thread_time() - start
            if number // 262_144 > (number - size) // 262_144:
                print(f"  {number:,} records, {time.perf_counter() - began:.0f} s", flush=True)
                if index is not None:
                    index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if index is not None:
        print(f"indexing: {indexing / count * 1e6:.1f} µs of CPU a record")
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        index.close()
    store.close()


async def query_rates(url: str, count: int) -> None:
    print(f"\nPages of 100 among {count:,} records")
    print("filter                                 first ms  median ms  max ms  records")
    reader = audit_at(url, signer=SIGNER, program="benchmark").reader
    sample = (await reader.query(Query(limit=1), now=START)).records[0]
    middle = START + timedelta(days=15)
    hour = {"since": middle, "until": middle + timedelta(hours=1)}
    year = {"since": START, "until": START + timedelta(days=365)}
    filters: list[dict[str, Any]] = [
        {},
        {"caller": CALLERS[0]},
        {"caller": CALLERS[95]},
        {"environment": "fabrikam"},
        {"application": "erp-invoices"},
        {"table": TABLES[0]},
        {"table": TABLES[250]},
        {"operation": "read"},
        {"decision": "error"},
        {"status": 204},
        {"status": 418},
        {"request_id": sample.request_id},
        {"caller": CALLERS[60], "table": TABLES[150], "status": 204},
    ]
    for chosen in filters:
        for name, span in (("", {}), (" + an hour", hour), (" + all time", year)):
            await print_page(reader, name, chosen, span)
    began = time.perf_counter()
    found = await reader.get(sample.id, now=START)
    assert found == sample
    print(f"{'one by its id':38} {(time.perf_counter() - began) * 1e3:8.1f}")
    await reader.aclose()


async def print_page(
    reader: RecordReader, name: str, chosen: dict[str, Any], span: dict[str, Any]
) -> None:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        page = await reader.query(Query(**chosen, **span), now=START)
        times.append((time.perf_counter() - began) * 1e3)
    label = ",".join(f"{key}={str(value)[:13]}" for key, value in chosen.items()) or "all"
    print(
        f"{label[:27] + name:38} {times[0]:8.1f}  {statistics.median(times):9.1f}"
        f"  {max(times):6.1f}  {len(page.records):7}"
    )


def cost(name: str, act: Callable[[], object]) -> None:
    best = min(_time(act) for _ in range(5))
    print(f"{name:40} {best * 1e6:6.2f} µs")


def _time(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(20_000):
        act()
    return (time.perf_counter() - began) / 20_000


def part_costs() -> None:
    dice, ids = random.Random(3), RecordIds()  # noqa: S311
    one = record(ids, START, dice)
    body = encode(one)
    print("Parts, on the event loop unless said otherwise")
    cost("an id", lambda: ids.next(START))
    cost("a timestamp", lambda: timestamp(START))
    cost("encode", lambda: encode(one))
    cost("chain step (writer thread)", lambda: chain.link(chain.GENESIS, body))
    print(f"{'bytes of a record':40} {len(body):6}\n")


def run(work: Callable[[], Awaitable[None]]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--query", type=int, default=0, metavar="RECORDS")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--url", help="where to keep: an empty file, or migrated empty tables")
    parser.add_argument("--filled", action="store_true", help="what --query makes is there already")
    options = parser.parse_args()
    # What the audit logs (openings, checkpoints) would stand between the rows.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    folder = Path(tempfile.mkdtemp(dir="."))
    url = options.url or f"sqlite:///{folder}/audit.db"
    try:
        if options.query:
            if not options.filled:
                fill(url, options.query)
            run(lambda: query_rates(url, options.query))
        else:
            part_costs()
            run(lambda: journal_rates(url, folder, options.seconds))
            verify_rates(url)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
