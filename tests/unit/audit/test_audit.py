from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.audit.audit import audit_at
from app.audit.journal import RecordUnavailable
from app.audit.offline import entries_at, follow_at, migrate_at
from app.audit.query import Query
from app.audit.url import sqlite_path
from app.audit.verify import verify
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.audit.keys import CheckpointSigner
    from app.audit.record import Record

pytestmark = pytest.mark.anyio


async def test_what_was_appended_is_answered_at_once_and_after_a_restart(
    tmp_path: Path, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    url = f"sqlite:///{tmp_path}/audit.db"
    kept = [record() for _ in range(50)]
    for half in (kept[:25], kept[25:]):
        audit = audit_at(url, signer=signer, program="test")
        await audit.start()
        assert audit.journal.healthy
        await asyncio.gather(*(audit.journal.append(one) for one in half))
        page = await audit.reader.query(Query(), now=datetime.now(UTC))
        assert page.records[:25] == tuple(half[::-1])
        await audit.aclose()
    assert page.records == tuple(kept[::-1])


async def test_a_file_can_be_read_and_followed_without_a_broker(
    tmp_path: Path, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    url = f"sqlite:///{tmp_path}/audit.db"
    assert migrate_at(url) == 3
    assert migrate_at(url) == 0
    audit = audit_at(url, signer=signer, program="test")
    await audit.start()
    await audit.journal.append(record())
    tombstones, entries = entries_at(url)
    assert not tombstones
    assert verify(entries).entries == 3
    waiting = [record(), record()]
    loop = asyncio.get_running_loop()

    def wait() -> bool:
        if not waiting:
            return True
        one = waiting.pop()
        asyncio.run_coroutine_threadsafe(append(one), loop).result()
        return False

    async def append(one: Record) -> None:
        await audit.journal.append(one)

    found = await asyncio.to_thread(lambda: [one.seq for one in follow_at(url, wait=wait)])
    assert found == [4, 5]
    await audit.aclose()


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///./audit.db", "audit.db"), ("sqlite:////var/lib/a.db", "/var/lib/a.db")],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


async def test_a_file_behind_a_link_is_kept_where_it_is(
    tmp_path: Path, signer: CheckpointSigner, record: Callable[..., Record]
) -> None:
    behind = tmp_path / "volume" / "audit.db"
    await asyncio.to_thread(behind.parent.mkdir)
    (tmp_path / "audit.db").symlink_to(behind)
    audit = audit_at(f"sqlite:///{tmp_path}/audit.db", signer=signer, program="test")
    await audit.start()
    await audit.journal.append(record())
    behind.unlink()
    with pytest.raises(RecordUnavailable, match="removed or replaced"):
        await audit.journal.append(record())
    await audit.aclose()


def test_a_link_that_leads_to_itself_is_misconfigured(tmp_path: Path) -> None:
    (tmp_path / "audit.db").symlink_to(tmp_path / "audit.db")
    with pytest.raises(Misconfigured, match="leads nowhere"):
        sqlite_path(f"sqlite:///{tmp_path}/audit.db")


@pytest.mark.parametrize("url", ["sqlite:///", "mysql:///a", "audit.db", ""])
def test_a_url_that_names_no_store_is_misconfigured(url: str) -> None:
    with pytest.raises(Misconfigured, match="BROKER_AUDIT_URL"):
        sqlite_path(url)
