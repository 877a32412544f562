"""Answers from an audit file, beside the process that writes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeVar

from app.audit import postings
from app.audit.query import (
    LIMIT_MAX,
    Page,
    Query,
    cursor_after,
    matches,
    newest_first,
    place_of_cursor,
    unfinished,
)
from app.audit.record import INTENT_PREFIX, OUTCOME_PREFIX, decode, record_id
from app.audit.sqlite import connect, failing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from app.audit.record import Record

THREADS: Final = 2
"""An auditor's long question takes one of these, never the threads that others use."""

_FETCH: Final = 64
_LAST: Final = (1 << 63) - 1
_LAST_MOMENT: Final = (1 << 48) - 1

T = TypeVar("T")
Found = tuple[int, "Record"]


class SqliteReader:
    """Questions to one audit file. `aclose()` it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(THREADS, "audit-reader")

    async def query(self, query: Query, *, now: datetime) -> Page:
        place = place_of_cursor(query, 8)
        below = None if place is None else int.from_bytes(place, "big")
        return await self._run(lambda connection: _page(connection, query, below, now))

    async def get(self, record_id: str, *, now: datetime) -> Record | None:
        return await self._run(lambda connection: _get(connection, record_id, now))

    async def aclose(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._ask(ask)
        )

    def _ask(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with failing("read"):
            self._path.stat()
            # None is kept: what SQLite knows of a file's log would outlive the log with it.
            with contextlib.closing(connect(self._path, read_only=True)) as connection:
                # One snapshot for the whole answer, whatever is written meanwhile.
                connection.execute("BEGIN")
                return ask(connection)


def _page(connection: sqlite3.Connection, query: Query, below: int | None, now: datetime) -> Page:
    limit = max(1, min(query.limit, LIMIT_MAX))
    view = _View(connection, below if below is not None else _LAST, now)
    if query.request_id is not None:
        indexed = view.by_key(query.request_id)
    else:
        indexed = view.by_terms(query)
    walk = chain(view.tail(), newest_first(view.open(), indexed))
    found = list(islice((hit for hit in walk if matches(query, hit[1])), limit + 1))
    return Page(
        records=tuple(record for _, record in found[:limit]),
        cursor=cursor_after(found[limit - 1][0].to_bytes(8, "big"), query)
        if len(found) > limit
        else None,
        unindexed=view.unindexed,
    )


def _get(connection: sqlite3.Connection, wanted: str, now: datetime) -> Record | None:
    view = _View(connection, _LAST, now)
    walk = chain(view.tail(), newest_first(view.open(), view.by_key(wanted)))
    return next((record for _, record in walk if record.id == wanted), None)


class _View:
    """One snapshot of the file, under a row."""

    def __init__(self, connection: sqlite3.Connection, below: int, now: datetime) -> None:
        self._connection = connection
        self._below = below
        self._now = now
        self._indexed: int = connection.execute(
            "SELECT value FROM state WHERE name = 'indexed'"
        ).fetchone()[0]
        # The index is written ahead of that mark: what lies beyond it is not whole.
        self._limit = min(below, self._indexed + 1)
        self._closed: set[str] = set()
        newest: int = connection.execute("SELECT coalesce(max(row), 0) FROM entries").fetchone()[0]
        self.unindexed = max(newest - self._indexed, 0)

    def tail(self) -> Iterator[Found]:
        """What the index has yet to take in; to be walked first, and to its end."""
        # Outcomes come after their intents: going down, each intent's fate is known by then.
        for row, body in self._connection.execute(
            "SELECT row, body FROM entries WHERE row > ? ORDER BY row DESC", (self._indexed,)
        ):
            if body.startswith(OUTCOME_PREFIX):
                self._closed.add(record_id(body))
            elif not body.startswith(INTENT_PREFIX) or record_id(body) in self._closed:
                continue
            if row < self._below:
                yield row, self._shown(body)

    def open(self) -> Iterator[Found]:
        """Indexed intents without an outcome."""
        for row, id_, body in self._connection.execute(
            "SELECT row, id, body FROM open_intents JOIN entries USING (row)"
            " WHERE row < ? ORDER BY row DESC",
            (self._below,),
        ):
            if id_ not in self._closed:
                yield row, self._shown(body)

    def by_key(self, text: str) -> Iterator[Found]:
        """Finished records that an id or a request id may belong to."""
        eras = list(range(postings.era_of(self._indexed) + 1))
        rows = {
            row
            for (row,) in self._connection.execute(
                "SELECT row FROM keys WHERE era IN (SELECT value FROM json_each(?)) AND key = ?",
                (json.dumps(eras), postings.key_of(text)),
            )
        }
        rows.update(self._at_moment_of(text))
        yield from self._fetch(sorted((row for row in rows if row < self._limit), reverse=True))

    def _at_moment_of(self, text: str) -> Iterator[int]:
        """Rows of finished records whose time is what an id says. Files that an older program
        indexed have keys for them too.
        """
        said = postings.moment_of_id(text)
        if said is None or not 0 <= said <= _LAST_MOMENT:
            return
        latest = said + postings.ID_SLACK_MS
        for number, first_time, times in self._connection.execute(
            "SELECT block, first_time, times FROM blocks WHERE first_time <= ? AND last_time >= ?",
            (latest, said),
        ):
            for moment in range(said, latest + 1):
                yield from postings.rows_at(number, times, first_time, moment)

    def by_terms(self, query: Query) -> Iterator[Found]:
        """Finished records that have the query's terms, near its span of time."""
        since_ms = None if query.since is None else int(query.since.timestamp() * 1000)
        until_ms = None if query.until is None else int(query.until.timestamp() * 1000)
        for number, first_time, last_time, sets in self._blocks(query, since_ms, until_ms):
            rows = postings.rows_down(number, sets, self._limit)
            if (since_ms is not None and first_time < since_ms) or (
                until_ms is not None and last_time > until_ms
            ):
                times = self._connection.execute(
                    "SELECT times FROM blocks WHERE block = ?", (number,)
                ).fetchone()[0]
                rows = postings.within(rows, times, first_time, since_ms, until_ms)
            while chunk := list(islice(rows, _FETCH)):
                yield from self._fetch(chunk)

    def _blocks(
        self, query: Query, since_ms: int | None, until_ms: int | None
    ) -> Iterator[tuple[int, int, int, Sequence[bytes]]]:
        terms = []
        for text in postings.terms_asked(query):
            known = self._connection.execute(
                "SELECT term FROM terms WHERE text = ?", (text,)
            ).fetchone()
            if known is None:
                return
            terms.append(known[0])
        # The numbers in the names are ours; everything else is bound.
        more = "".join(
            f" JOIN postings AS p{n} ON p{n}.term = ? AND p{n}.block = p0.block"
            for n in range(1, len(terms))
        )
        sets = ", ".join(f"p{n}.rows" for n in range(len(terms)))
        for number, first_time, last_time, *packed in self._connection.execute(
            f"SELECT p0.block, first_time, last_time, {sets} FROM postings AS p0{more}"  # noqa: S608
            " CROSS JOIN blocks ON blocks.block = p0.block"
            " WHERE p0.term = ? AND p0.block <= ? AND last_time >= ? AND first_time <= ?"
            " ORDER BY p0.block DESC",
            (
                *terms[1:],
                terms[0],
                postings.block_of(self._limit),
                -1 if since_ms is None else since_ms,
                _LAST if until_ms is None else until_ms,
            ),
        ):
            yield number, first_time, last_time, packed

    def _fetch(self, rows: Sequence[int]) -> Iterator[Found]:
        for row, body in self._connection.execute(
            "SELECT row, body FROM entries WHERE row IN (SELECT value FROM json_each(?))"
            " ORDER BY row DESC",
            (json.dumps(rows),),
        ):
            yield row, decode(body)

    def _shown(self, body: bytes) -> Record:
        record = decode(body)
        return unfinished(record, self._now) if record.phase == "intent" else record
