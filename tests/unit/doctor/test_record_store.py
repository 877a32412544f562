"""Whether a record could be kept is told without keeping one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from app.audit.offline import migrate_at
from app.doctor import record_store
from app.doctor.finding import About, Finding
from app.doctor.record_store import examine_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.audit.conftest import Server


def examined(url: str) -> Finding:
    found = asyncio.run(examine_store(About("audit"), url))
    assert "hunter2" not in repr(found)
    return found


def test_a_file_that_can_be_written_is_well_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "audit.db"
    migrate_at(f"sqlite:///{file}")

    def tables() -> set[str]:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}

    before = tables()
    assert examined(f"sqlite:///{file}").level.value == "ok"
    assert tables() == before


def test_a_file_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = examined(f"sqlite:///{tmp_path / 'audit.db'}")
    assert (found.level.value, list(tmp_path.iterdir())) == ("ok", [])


def test_a_folder_that_is_not_there_fails(tmp_path: Path) -> None:
    found = examined(f"sqlite:///{tmp_path / 'gone' / 'audit.db'}")
    assert found.level.value == "failure"
    assert "is not there" in found.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        found = examined(f"sqlite:///{tmp_path / 'audit.db'}")
    finally:
        tmp_path.chmod(0o700)
    assert (found.level.value, "cannot be written" in found.text) == ("failure", True)


def test_a_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_store, "RESERVE_BYTES", 2**62)
    found = examined(f"sqlite:///{tmp_path / 'audit.db'}")
    assert found.level.value == "failure"
    assert "in reserve" in found.text


def test_a_file_that_somebody_holds_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_store, "BUSY_S", 0.05)
    file = tmp_path / "audit.db"
    migrate_at(f"sqlite:///{file}")
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        found = examined(f"sqlite:///{file}")
    finally:
        holder.close()
    assert found.level.value == "failure"
    assert "database is locked" in found.text


def test_a_postgresql_that_takes_records_is_well(postgres_url: str) -> None:
    assert examined(postgres_url).level.value == "ok"


def test_a_postgresql_without_the_tables_says_what_to_run(postgres_server: Server) -> None:
    postgres_server.execute("CREATE DATABASE bare")
    found = examined(postgres_server.url("bare"))
    assert found.code == "audit-store-older"
    assert "token-broker migrate" in found.text


def test_a_user_who_may_not_insert_fails(postgres_server: Server, postgres_url: str) -> None:
    database = urlsplit(postgres_url).path.removeprefix("/")
    postgres_server.execute("CREATE ROLE looker LOGIN", database)
    postgres_server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker", database)
    found = examined(postgres_url.replace("audit@", "looker@", 1))
    assert found.level.value == "failure"
    assert "may not insert" in found.text


def test_a_postgresql_that_is_not_there_fails_without_its_password() -> None:
    found = examined("postgresql://audit:hunter2@127.0.0.1:1/audit")
    assert found.level.value == "failure"
    assert "cannot be reached" in found.text


def test_an_address_that_is_none_fails() -> None:
    assert examined("mysql://x").code == "audit-url-invalid"
