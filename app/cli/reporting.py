"""`token-broker audit report`: who read or wrote which table, by day."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.audit.export import finished_records
from app.audit.query import matches
from app.audit.report import table_use
from app.cli.outcome import say_json
from app.cli.progress import counted
from app.cli.store import kept

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.audit.query import Query
    from app.audit.report import TableUse

BAR = 40
"""The longest bar, in characters."""

_KINDS = (("reads", "green"), ("writes", "blue"), ("refused", "red"), ("failed", "yellow"))


def report(wanted: Query, *, store: str | None, export: Path | None, as_json: bool) -> None:
    """Raises `StoreFailed`, `CouldNot`."""
    with kept(store, export) as found:
        entries = counted(found.entries, "entries read")
        records = finished_records(entries, now=datetime.now(UTC))
        uses = table_use(record for record in records if matches(wanted, record))
    if as_json:
        say_json([use._asdict() for use in uses])
        return
    console = Console(highlight=False)
    if not uses:
        console.print("No request touched a table.")
        return
    console.print(_table(uses))
    console.print()
    for line in chart(uses):
        console.print(line, soft_wrap=True)


def _table(uses: Sequence[TableUse]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("day", "table", "caller", "as"):
        table.add_column(name, overflow="fold")
    for name, colour in _KINDS:
        table.add_column(name, justify="right", style=colour)
    for use in uses:
        counts = (str(getattr(use, name) or "") for name, _ in _KINDS)
        table.add_row(use.day, use.table, use.caller, use.application, *counts)
    return table


def chart(uses: Sequence[TableUse]) -> list[Text]:
    """A bar for each table and day, its parts in the order reads, writes, refused, failed."""
    totals = [
        (day, table, [sum(getattr(use, name) for use in group) for name, _ in _KINDS])
        for (day, table), rows in groupby(uses, key=lambda use: (use.day, use.table))
        for group in [list(rows)]
    ]
    most = max(sum(counts) for _, _, counts in totals)
    width = max(len(table) for _, table, _ in totals)
    lines = [_legend()]
    for day, table, counts in totals:
        line = Text(f"{day}  {table:<{width}}  ")
        for count, (_, colour) in zip(counts, _KINDS, strict=True):
            # What happened at all is seen, however little it was.
            length = max(1, round(count * BAR / most)) if count else 0
            line.append("█" * length, style=colour)
        lines.append(line.append(f" {sum(counts)}", style="dim"))
    return lines


def _legend() -> Text:
    line = Text()
    for name, colour in _KINDS:
        line.append("█ ", style=colour).append(f"{name}   ", style="dim")
    return line
