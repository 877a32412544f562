"""What the audit does when it is killed, and when its file is full, locked, removed or cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.audit import sqlite as sqlite_module
from app.audit.audit import Audit, audit_at
from app.audit.journal import RecordUnavailable
from app.audit.keys import CheckpointKeys, CheckpointSigner
from app.audit.query import Query
from app.audit.record import Record, RecordIds, decode, is_record, timestamp
from app.audit.sqlite import SqliteStore, connect
from app.audit.sqlite_entries import read_entries, read_tombstones
from app.audit.verify import verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.audit.chain import Checkpoint

pytestmark = pytest.mark.anyio

SIGNER = CheckpointSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEYS = CheckpointKeys([SIGNER.public_key])
ROOT = Path(__file__).parents[2]
IDS = RecordIds()

FULL = "cannot write the audit file: database or disk is full"

LOADED = """
import asyncio, sys
from datetime import UTC, datetime
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from app.audit.audit import audit_at
from app.audit.keys import CheckpointSigner
from app.audit.record import Record, RecordIds, timestamp

async def main():
    signer = CheckpointSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    audit = audit_at("sqlite:///" + sys.argv[1], signer=signer, program="killed")
    await audit.start()
    ids = RecordIds()

    async def on_and_on():
        while True:
            now = datetime.now(UTC)
            one = Record(phase="outcome", id=ids.next(now), time=timestamp(now), action="proxy",
                         decision="allowed", reason="x" * 400)
            await audit.journal.append(one)
            print(one.id, flush=True)

    await asyncio.gather(*(on_and_on() for _ in range(16)))

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
async def audit(path: Path) -> AsyncIterator[Audit]:
    audit = audit_at(f"sqlite:///{path}", signer=SIGNER, program="test")
    await audit.start()
    yield audit
    await audit.aclose()


def record() -> Record:
    now = datetime.now(UTC)
    return Record(
        phase="outcome", id=IDS.next(now), time=timestamp(now), action="proxy", decision="allowed"
    )


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not true():  # noqa: ASYNC110 - another thread's doing
            await asyncio.sleep(0.02)


def remove(path: Path) -> None:
    path.unlink()


def kept_ids(path: Path) -> set[str]:
    entries = (entry for _, entry in read_entries(path))
    return {decode(entry.body).id for entry in entries if is_record(entry.body)}


def test_a_killed_broker_has_kept_every_record_that_it_said_it_had(path: Path) -> None:
    dice = random.Random(os.environ.get("SEED"))  # noqa: S311
    promised: set[str] = set()
    for _ in range(8):
        killed = subprocess.Popen(
            [sys.executable, "-c", LOADED, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert killed.stdout is not None
        # Its first lines: it is under load from here on.
        lines = [line for line in (killed.stdout.readline() for _ in range(17)) if line]
        time.sleep(dice.uniform(0, 0.1))
        killed.send_signal(signal.SIGKILL)
        lines += killed.stdout.readlines()
        killed.wait()
        killed.stdout.close()
        # The last line may be cut.
        promised |= {line.strip() for line in lines if line.endswith("\n") and line[8:9] == "-"}
        verdict = verify(
            (entry for _, entry in read_entries(path)),
            keys=KEYS,
            tombstones=read_tombstones(path),
        )
        assert verdict.faults == ()
    assert len(promised) > 8
    assert promised <= kept_ids(path)


async def test_a_full_file_refuses_and_what_comes_later_goes_on_in_the_same_chain(
    audit: Audit, path: Path
) -> None:
    kept = record()
    await audit.journal.append(kept)
    store = audit.journal._writer._store
    assert isinstance(store, SqliteStore)
    assert store._connection is not None
    # SQLite says the same as for a full disk. The limit goes with the connection.
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    waiting = [audit.journal.append(record()) for _ in range(1000)]
    refused = [one for one in await asyncio.gather(*waiting, return_exceptions=True) if one]
    assert {str(one) for one in refused} == {str(RecordUnavailable(FULL))}
    await until(lambda: audit.journal.healthy)
    after = record()
    await audit.journal.append(after)
    assert {kept.id, after.id} <= kept_ids(path)
    verdict = verify((entry for _, entry in read_entries(path)), keys=KEYS)
    assert verdict.faults == ()
    assert len(verdict.chains) == 1


async def test_a_locked_file_refuses_until_it_is_free_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_S", 0.1)
    audit = audit_at(f"sqlite:///{path}", signer=SIGNER, program="test")
    await audit.start()
    other = connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RecordUnavailable, match="locked"):
        await audit.journal.append(record())
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: audit.journal.healthy)
    await audit.journal.append(record())
    await audit.aclose()
    assert verify((entry for _, entry in read_entries(path)), keys=KEYS).good


@pytest.mark.parametrize(
    ("what", "lost"),
    [
        # SQLite still has the log open, and puts it into the file that is there.
        ("audit.db-wal", []),
        ("audit.db", ["removed"]),
        ("audit.db audit.db-wal audit.db-shm", ["removed"]),
    ],
)
async def test_a_removed_file_is_noticed_and_the_next_one_names_what_was_lost(
    audit: Audit, path: Path, what: str, lost: list[str]
) -> None:
    await audit.journal.append(record())
    for name in what.split():
        remove(path.with_name(name))
    # The journal's own look, once a second, may have come before this.
    with contextlib.suppress(RecordUnavailable):
        await audit.journal.append(record())
    await until(lambda: audit.journal.healthy)
    after = record()
    await audit.journal.append(after)
    assert after.id in kept_ids(path)
    page = await audit.reader.query(Query(), now=datetime.now(UTC))
    assert page.records[0].id == after.id
    verdict = verify((entry for _, entry in read_entries(path)), keys=KEYS)
    assert [fault.kind for fault in verdict.faults] == lost


async def test_a_log_that_is_removed_under_load_takes_nothing_along(
    audit: Audit, path: Path
) -> None:
    kept: list[Record] = []

    async def load(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            one = record()
            with contextlib.suppress(RecordUnavailable):
                await audit.journal.append(one)
                kept.append(one)

    async def ask() -> None:
        # Those who read, and the keeper, have the file open as well.
        await asyncio.sleep(0.5)
        await audit.reader.query(Query(), now=datetime.now(UTC))
        await asyncio.to_thread(remove, path.with_name("audit.db-wal"))

    await asyncio.gather(*(load(1.0) for _ in range(8)), ask())
    await until(lambda: audit.journal.healthy)
    after = record()
    await audit.journal.append(after)
    page = await audit.reader.query(Query(), now=datetime.now(UTC))
    assert page.records[0].id == after.id
    assert {one.id for one in (*kept, after)} <= kept_ids(path)


async def test_a_store_that_was_opened_anew_keeps_its_log_from_visitors(
    audit: Audit, path: Path
) -> None:
    await audit.journal.append(record())
    # The keeper has the file open by then.
    await asyncio.sleep(0.5)
    store = audit.journal._writer._store
    await asyncio.to_thread(store.open)
    visit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
    visit += " c.execute('SELECT count(*) FROM entries').fetchone(); c.close()"
    visitor = await asyncio.create_subprocess_exec(sys.executable, "-c", visit, str(path))
    assert await visitor.wait() == 0
    assert await asyncio.to_thread(path.with_name("audit.db-wal").exists)
    one = record()
    await audit.journal.append(one)
    assert one.id in kept_ids(path)


async def test_a_removed_file_is_noticed_though_nobody_writes(audit: Audit, path: Path) -> None:
    remove(path)
    await until(path.exists)
    await until(lambda: audit.journal.healthy)


async def test_a_folder_that_is_gone_refuses_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    audit = audit_at(f"sqlite:///{folder}/audit.db", signer=SIGNER, program="test")
    await audit.start()
    assert not audit.journal.healthy
    with pytest.raises(RecordUnavailable):
        await audit.journal.append(record())
    await asyncio.to_thread(folder.mkdir)
    await until(lambda: audit.journal.healthy)
    await audit.journal.append(record())
    await audit.aclose()


async def test_a_file_that_is_no_database_refuses(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"not a database" * 1000)
    audit = audit_at(f"sqlite:///{path}", signer=SIGNER, program="test")
    await audit.start()
    with pytest.raises(RecordUnavailable, match="not a database"):
        await audit.journal.append(record())
    await audit.aclose()


async def test_two_workers_write_one_file_each_in_its_own_chain(path: Path) -> None:
    anchors: list[Checkpoint] = []
    audits = [
        audit_at(f"sqlite:///{path}", signer=SIGNER, program="test", on_checkpoint=anchors.append)
        for _ in range(2)
    ]
    for one in audits:
        await one.start()
    kept = [record() for _ in range(400)]

    async def write(audit: Audit, records: list[Record]) -> None:
        for one in records:
            await audit.journal.append(one)

    await asyncio.gather(*(write(audits[n % 2], kept[n::8]) for n in range(8)))
    for one in audits:
        await one.aclose()
    assert kept_ids(path) == {one.id for one in kept}
    verdict = verify((entry for _, entry in read_entries(path)), keys=KEYS, anchors=anchors)
    assert verdict.faults == ()
    assert [chain.closed for chain in verdict.chains] == [True, True]


async def test_a_changed_file_is_found_out(audit: Audit, path: Path) -> None:
    for _ in range(5):
        await audit.journal.append(record())
    thief = sqlite3.connect(path)
    thief.execute(
        "UPDATE entries SET body = CAST(replace(body, 'allowed', 'refused') AS BLOB) WHERE seq = 4"
    )
    thief.execute("DELETE FROM entries WHERE seq = 6")
    thief.commit()
    thief.close()
    verdict = verify((entry for _, entry in read_entries(path)), keys=KEYS)
    assert [(f.kind, f.first, f.last) for f in verdict.faults] == [
        ("altered", 4, 4),
        ("removed", 6, 6),
    ]


def test_the_view_for_people_shows_bodies_as_text(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    connection = sqlite3.connect(path)
    columns = [row[0] for row in connection.execute("SELECT * FROM readable").description]
    connection.close()
    store.close()
    assert json.dumps(columns) == '["row", "writer", "seq", "body", "hash"]'
