"""Whether a record could be written where BROKER_AUDIT_URL says, without writing one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from app.audit.journal import RESERVE_BYTES
from app.audit.url import is_postgres, need_asyncpg, sqlite_path
from app.errors import BrokerError

if TYPE_CHECKING:
    from pathlib import Path

    from app.doctor.finding import About, Finding

BUSY_S: Final = 3.0

CONSEQUENCE: Final = "Without a record no request is served."


async def examine_store(about: About, url: str) -> Finding:
    """`url` may hold a password: it is never shown."""
    try:
        if is_postgres(url):
            need_asyncpg()
            return await _postgres(about, url)
        return await asyncio.to_thread(_sqlite, about, sqlite_path(url))
    except BrokerError as error:
        return about.failure("audit", error.detail, CONSEQUENCE, code=error.code)


def _sqlite(about: About, path: Path) -> Finding:
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        state = "cannot be written" if folder.is_dir() else "is not there"
        return about.failure(
            "audit",
            f"the folder {folder} of the audit file {state}",
            f"Mount it, and give it to the user that the broker runs as. {CONSEQUENCE}",
        )
    space = os.statvfs(folder)
    room_bytes = space.f_bavail * space.f_frsize
    if room_bytes < RESERVE_BYTES:
        return about.failure(
            "audit",
            f"{room_bytes // 2**20} MiB are free where the audit file is: the broker keeps"
            f" {RESERVE_BYTES // 2**20} MiB in reserve",
            f"Make room, or shorten BROKER_AUDIT_RETENTION. {CONSEQUENCE}",
        )
    if not path.exists():
        return about.ok("audit", f"the audit file {path} is not there yet, and can be made")
    try:
        _take_a_turn(path)
    except sqlite3.Error as error:
        # SQLite's messages name the trouble (readonly, locked, malformed), never a content.
        return about.failure(
            "audit",
            f"the audit file {path} cannot be written: {error}",
            "Give the file, and those beside it that begin like it, to the user that the broker"
            f" runs as. {CONSEQUENCE}",
        )
    return about.ok("audit", f"the audit file {path} can be written")


def _take_a_turn(path: Path) -> None:
    """Begin to write, and think better of it."""
    address = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("CREATE TABLE doctor (looked)")
        finally:
            connection.execute("ROLLBACK")


async def _postgres(about: About, url: str) -> Finding:
    from app.audit.postgres import connect  # noqa: PLC0415 - an extra
    from app.audit.postgres_schema import check_version  # noqa: PLC0415

    try:
        connection: Any = await connect(url)
    except Exception as error:  # noqa: BLE001 - asyncpg's own, OSError, TimeoutError: all say no
        return about.failure(
            "audit",
            f"PostgreSQL cannot be reached ({type(error).__name__})",
            "Check host, user and password of BROKER_AUDIT_URL, and the network policy on the way."
            f" {CONSEQUENCE}",
        )
    try:
        await check_version(connection)
        standby, may_insert = await connection.fetchrow(
            "SELECT pg_is_in_recovery(), has_table_privilege('audit_entries', 'INSERT')"
        )
    finally:
        await connection.close(timeout=2.0)
    if standby:
        return about.failure(
            "audit",
            "PostgreSQL is a standby, which takes no writes",
            f"Let BROKER_AUDIT_URL name the primary. {CONSEQUENCE}",
        )
    if not may_insert:
        return about.failure(
            "audit",
            "the user of BROKER_AUDIT_URL may not insert into audit_entries",
            f"Grant it INSERT, SELECT and UPDATE on the audit's tables. {CONSEQUENCE}",
        )
    return about.ok("audit", "PostgreSQL takes records")
