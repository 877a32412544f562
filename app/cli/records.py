"""`token-broker audit query` and `audit tail`: records, a line each."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.audit.export import finished_records
from app.audit.offline import follow_at
from app.audit.query import accesses_of, matches
from app.cli.outcome import say_json
from app.cli.store import audit_url, existing, reader_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.audit.query import Page, Query
    from app.audit.record import Record

LOOK_S = 0.5
"""Between two looks for new records."""

_COLOURS = {"allowed": "green", "refused": "red", "error": "yellow"}
_TIME, _CALLER, _APPLICATION = 19, 18, 16


def query(wanted: Query, *, store: str | None, as_json: bool) -> None:
    """One page, newest first. Raises `StoreFailed`, and `Unreadable` for a cursor that is none."""
    page = asyncio.run(_page(audit_url(store), wanted))
    if as_json:
        say_json({"records": [plain(r) for r in page.records], "next_cursor": page.cursor})
        return
    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("time", "caller", "as", "request", "decision", "status"):
        table.add_column(name, overflow="fold")
    for record in page.records:
        table.add_row(
            record.time[:_TIME].replace("T", " "),
            record.caller or "",
            record.application or "",
            Text(_request(record)),
            _decision(record),
            "" if record.status is None else str(record.status),
        )
    console.print(table)
    if page.cursor is not None:
        console.print(Text(f"More with --cursor {page.cursor}", style="dim"), soft_wrap=True)


def tail(wanted: Query, *, store: str | None, follow: bool, as_json: bool) -> None:
    """The last records, oldest first, and with `follow` those that come, until Ctrl-C."""
    url = existing(audit_url(store))
    # Begun before the question is asked, so that nothing falls between the two.
    coming = follow_at(url, wait=_wait) if follow else iter(())
    page = asyncio.run(_page(url, wanted))
    console = Console(highlight=False)

    def show(record: Record) -> None:
        if as_json:
            sys.stdout.write(json.dumps(plain(record), ensure_ascii=False) + "\n")
            sys.stdout.flush()
        else:
            console.print(_line(record), soft_wrap=True)

    shown = {record.id for record in page.records if record.outcome != "open"}
    for record in reversed(page.records):
        show(record)
    # One at a time: an intent whose outcome is still to come is no news yet.
    for entry in coming:
        for record in finished_records([entry], now=datetime.now(UTC)):
            if record.phase == "outcome" and record.id not in shown and matches(wanted, record):
                show(record)


def _wait() -> bool:
    time.sleep(LOOK_S)
    return False


async def _page(url: str, wanted: Query) -> Page:
    reader = reader_at(url)
    try:
        return await reader.query(wanted, now=datetime.now(UTC))
    finally:
        await reader.aclose()


def plain(record: Record) -> dict[str, Any]:
    """The record as JSON has it; what has nothing to tell is left out."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def _line(record: Record) -> Text:
    line = Text(record.time[:_TIME].replace("T", " "), style="dim")
    line.append(f"  {record.caller or '(unknown)':<{_CALLER}}", style="not dim cyan")
    line.append(f"{record.application or '':<{_APPLICATION}}", style="not dim default")
    line.append(f"{record.status or '':>4} ", style="not dim bold")
    line.append_text(_decision(record))
    line.append(f"  {_request(record)}", style="not dim default")
    return line


def _decision(record: Record) -> Text:
    text = Text(record.decision, style=f"not dim {_COLOURS[record.decision]}")
    if record.outcome not in {None, "completed"}:
        text.append(f" {record.outcome}", style="yellow")
    if record.reason is not None:
        text.append(f" {record.reason}", style="default")
    return text


def _request(record: Record) -> str:
    what = f"{record.method or ''} {record.target or f'({record.action})'}"
    touched = _touched(accesses_of(record))
    return f"{what}  [{touched}]" if touched else what


def _touched(accesses: Iterable[Any]) -> str:
    """`update invoices, append_to accounts`, each once."""
    return ", ".join(dict.fromkeys(f"{a.operation} {a.table}" for a in accesses))
