"""`token-broker policy suggest`: from the record, the smallest grant that would have done."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.audit.export import finished_records
from app.audit.query import accesses_of, matches
from app.cli.checking import checked_configuration
from app.cli.outcome import CouldNot, say_json
from app.cli.progress import counted
from app.cli.seen import use_of
from app.cli.store import kept
from app.config.problems import nearest
from app.policy.suggest import UNKNOWN, Use, suggest, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from app.audit.query import Query
    from app.audit.record import Record
    from app.cli.checking import SchemaFiles
    from app.config import model
    from app.path.standing import Standing


@dataclass(slots=True)
class Seen:
    """What one grant was used for."""

    uses: list[Use] = field(default_factory=list)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By table, operation and decision."""
    notes: set[str] = field(default_factory=set)

    def add(self, record: Record, use: Use) -> None:
        self.uses.append(use)
        for access in {(a.table, a.operation) for a in accesses_of(record)}:
            self.counts[*access, record.decision] += 1
        names = {a.table for a in accesses_of(record)}
        names.update(c for a in accesses_of(record) for c in a.columns or ())
        if UNKNOWN in names:
            self.notes.add("names that the schema did not know were asked for; they are left out")
        if record.reason == "token-not-granted":
            self.notes.add("the raw token was asked for and refused; that is not suggested")


def suggest_grants(
    wanted: Query,
    *,
    config: Path,
    schemas: SchemaFiles,
    store: str | None,
    export: Path | None,
    allowed_only: bool,
    as_json: bool,
) -> None:
    """For each grant of the caller that the query names. Raises `CouldNot`, `StoreFailed`."""
    assert wanted.caller is not None
    standing = _standing(config, schemas)
    callers = standing.configuration.callers
    if wanted.caller not in callers:
        near = nearest(wanted.caller, callers)
        raise CouldNot("no-such-caller", f"--caller {wanted.caller}: no such caller{near}")
    grants = callers[wanted.caller].grants
    with kept(store, export) as found:
        records = finished_records(counted(found.entries, "entries read"), now=datetime.now(UTC))
        seen = _seen((r for r in records if matches(wanted, r)), grants, standing, allowed_only)
    if as_json:
        say_json([_as_json(grant, seen[index]) for index, grant in enumerate(grants)])
        return
    console = Console(highlight=False)
    for index, grant in enumerate(grants):
        _show(console, f"callers.{wanted.caller}.grants[{index}]", grant, seen[index])


def _standing(config: Path, schemas: SchemaFiles) -> Standing:
    checked = checked_configuration(config, schemas=schemas, offline=True)
    if checked.standing is None:
        raise CouldNot("configuration-invalid", "\n".join(map(str, checked.problems)))
    return checked.standing


def _seen(
    records: Iterable[Record],
    grants: Sequence[model.Grant],
    standing: Standing,
    allowed_only: bool,  # noqa: FBT001 - one of four
) -> list[Seen]:
    found = [Seen() for _ in grants]
    for record in records:
        index = _grant_of(record, grants)
        if index is None or not _counts_here(record, allowed_only=allowed_only):
            continue
        schema = standing.places[grants[index].environment].schema
        found[index].add(record, use_of(record, schema))
    return found


def _counts_here(record: Record, *, allowed_only: bool) -> bool:
    """Refused for want of a grant, or not refused; what could not be read needs no right."""
    if record.decision == "allowed":
        return True
    refused_for_rights = record.reason in {"not-granted", "token-not-granted"}
    return not allowed_only and (record.decision == "error" or refused_for_rights)


def _grant_of(record: Record, grants: Sequence[model.Grant]) -> int | None:
    """The one that it was judged by: the application's, or the environment's first."""
    here = [i for i, g in enumerate(grants) if g.environment == record.environment]
    named = [i for i in here if record.application in grants[i].applications]
    return next(iter(named or here), None)


# ---------------------------------------------------------------------------------- shown


def _as_json(grant: model.Grant, seen: Seen) -> dict[str, Any]:
    suggested = suggest(grant, seen.uses)
    return {
        "environment": grant.environment,
        "requests": len(seen.uses),
        "today": written(grant),
        "suggested": written(suggested) if seen.uses else None,
        "difference": _difference(grant, suggested) if seen.uses else [],
        "notes": sorted(seen.notes),
    }


def _show(console: Console, place: str, grant: model.Grant, seen: Seen) -> None:
    heading = f"{place}, in {grant.environment}: {len(seen.uses)} requests"
    console.print(Text(heading, style="bold cyan"))
    if not seen.uses:
        console.print("  nothing was seen, so nothing is suggested\n")
        return
    console.print(_counts(seen))
    suggested = suggest(grant, seen.uses)
    difference = _difference(grant, suggested)
    console.print(Text("\nThe smallest grant that allows it", style="bold"))
    console.print(Text(_yaml(suggested, compact=True)), soft_wrap=True)
    if difference:
        console.print(Text("The difference to today's", style="bold"))
        for line in difference:
            console.print(Text(line, style=_colour(line)), soft_wrap=True)
    else:
        console.print(Text("Today's grant is that already.", style="green"))
    for note in sorted(seen.notes):
        console.print(Text.assemble(("note  ", "bold blue"), note), soft_wrap=True)
    console.print()


def _counts(seen: Seen) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("table", overflow="fold")
    table.add_column("operation")
    table.add_column("allowed", justify="right", style="green")
    table.add_column("refused", justify="right", style="red")
    for name, operation in sorted({(t, o) for t, o, _ in seen.counts}):
        table.add_row(
            name,
            operation,
            str(seen.counts[name, operation, "allowed"] or ""),
            str(seen.counts[name, operation, "refused"] or ""),
        )
    return table


def _difference(today: model.Grant, suggested: model.Grant) -> list[str]:
    """A unified diff of the two, as YAML, without its file names; empty where there is none."""
    lines = difflib.unified_diff(
        _yaml(today).splitlines(), _yaml(suggested).splitlines(), lineterm="", n=20
    )
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _yaml(grant: model.Grant, *, compact: bool = False) -> str:
    """`compact`: lists on one line, to be copied; otherwise an item a line, to be compared."""
    return yaml.safe_dump(
        written(grant),
        sort_keys=False,
        allow_unicode=True,
        width=88,
        default_flow_style=None if compact else False,
    )


def _colour(line: str) -> str:
    return {"+": "green", "-": "red"}.get(line[:1], "dim")
