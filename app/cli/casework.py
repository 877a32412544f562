"""`token-broker policy test`: an operator's own cases, played before a policy is merged."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from app.cli.offline import offline_standing
from app.cli.outcome import CouldNot, ExitCode, say_json
from app.cli.rehearsing import Rehearsal
from app.policy.case_format import read_cases
from app.policy.case_outcome import differences, told
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.cli.checking import SchemaFiles
    from app.policy.case_format import Case
    from app.policy.case_outcome import Seen


@dataclass(frozen=True, slots=True)
class Played:
    """A case, what became of it, and how that differs from what it says."""

    file: str
    case: Case
    seen: Seen
    differences: tuple[str, ...]


def run_cases(
    files: Sequence[Path], *, config: Path, schemas: SchemaFiles, as_json: bool
) -> ExitCode:
    """Raises `BrokerError` for a configuration or a file of cases that cannot be used."""
    cases = [(str(file), case) for file in files for case in _cases(file)]
    if not cases:
        raise CouldNot("no-cases", f"{', '.join(map(str, files))}: no case in it")
    # What the broker would log of the cases is told in its own way here.
    configure(level="ERROR", form="console")
    rehearsal = Rehearsal(offline_standing(config, schemas))
    played = asyncio.run(_played(rehearsal, cases))
    failed = [each for each in played if each.differences]
    if as_json:
        say_json(_as_json(played))
    else:
        _show(played, failed)
    return ExitCode.NO if failed else ExitCode.DONE


def _cases(file: Path) -> list[Case]:
    try:
        return list(read_cases(file.read_text(encoding="utf-8"), str(file)))
    except UnicodeDecodeError:
        raise CouldNot("cases-unreadable", f"{file}: is not UTF-8 text") from None


async def _played(rehearsal: Rehearsal, cases: Sequence[tuple[str, Case]]) -> list[Played]:
    played = []
    for file, case in cases:
        seen = await rehearsal.play(case)
        filled = rehearsal.filled(case)
        played.append(Played(file, case, seen, differences(filled, seen)))
    return played


def _show(played: Sequence[Played], failed: Sequence[Played]) -> None:
    console = Console(highlight=False)
    for each in failed:
        console.print(Text.assemble(("✗ ", "bold red"), (each.case.id, "bold"), f"  {each.file}"))
        console.print(Padding(_comparison(each), (0, 0, 1, 2)))
    counted = Counter(each.case.expect for each in played)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counted.most_common())
    good = len(played) - len(failed)
    line = Text(
        f"{good} of {len(played)} cases as they say", "bold red" if failed else "bold green"
    )
    console.print(line.append(f" ({kinds})", "not bold default"), soft_wrap=True)


def _comparison(each: Played) -> Table:
    case, table = each.case, Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("request", Text(f"{case.method} {unquote(case.target)}  as {case.caller}"))
    if case.why:
        table.add_row("because", Text(case.why))
    decided = each.seen.decision == case.expect
    if not decided:
        table.add_row("- expected", Text(_wanted(case), style="green"))
        table.add_row("+ got", Text(told(each.seen), style="red"))
    for sent in each.seen.sent:
        table.add_row("sent", Text(f"{sent.method} {sent.decoded}"))
    for text in each.differences if decided else each.differences[1:]:
        table.add_row("differs", Text(text, style="red"))
    return table


def _wanted(case: Case) -> str:
    statuses = case.response.statuses
    return f"{case.expect} ({' or '.join(map(str, statuses))})" if statuses else case.expect


def _as_json(played: Sequence[Played]) -> dict[str, Any]:
    return {
        "cases": len(played),
        "failed": [
            {
                "id": each.case.id,
                "file": each.file,
                "caller": each.case.caller,
                "expected": each.case.expect,
                "got": each.seen.decision,
                "status": each.seen.status,
                "detail": each.seen.detail,
                "sent": [{"method": s.method, "target": s.target} for s in each.seen.sent],
                "differences": list(each.differences),
            }
            for each in played
            if each.differences
        ],
    }
