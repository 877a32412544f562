"""`token-broker doctor`: walks the chain and shows each line as it comes."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from app.cli.outcome import ExitCode, say_json
from app.doctor.finding import Level, worst
from app.doctor.surroundings import Surroundings
from app.doctor.walk import examine
from app.path.connecting import connect
from app.telemetry.logs import configure
from app.tokens.entra import MsalEntra
from app.tokens.graph import Graph
from app.tokens.key_vault import KeyVaults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.doctor.finding import Finding

EXIT_CODES = {
    Level.OK: ExitCode.DONE,
    Level.ADVICE: ExitCode.DONE,
    Level.SKIPPED: ExitCode.DONE,
    Level.WARNING: ExitCode.WARNED,
    Level.FAILURE: ExitCode.NO,
}
"""By the worst line. What is skipped, is so for a line that is worse."""

_MARKS = {
    Level.OK: ("ok", "green"),
    Level.ADVICE: ("advice", "blue"),
    Level.SKIPPED: ("skipped", "dim"),
    Level.WARNING: ("warning", "bold yellow"),
    Level.FAILURE: ("failure", "bold red"),
}


WIDE = 200
"""Columns where nobody looks: what reads it finds each row on one line."""


def paper() -> Console:
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def surroundings() -> Surroundings:
    """This machine's."""
    entra = MsalEntra()
    return Surroundings(
        environ=os.environ,
        vaults=KeyVaults(),
        entra=entra,
        graph=Graph(entra),
        connect=connect,
        now=lambda: datetime.now(UTC),
    )


def doctor(
    config: Path,
    audit_url: str,
    *,
    environment: str | None,
    application: str | None,
    as_json: bool,
) -> ExitCode:
    # What goes wrong is what the lines are about; the stages' own warnings would say it twice.
    configure(level="ERROR", form="console")
    show = (lambda _: None) if as_json else Shown(paper())
    findings = asyncio.run(
        _examine(config, audit_url, environment=environment, application=application, show=show)
    )
    level = worst(findings)
    if as_json:
        say_json(as_document(findings))
    elif isinstance(show, Shown):
        show.sum_up(findings)
    return EXIT_CODES[level]


async def _examine(
    config: Path,
    audit_url: str,
    *,
    environment: str | None,
    application: str | None,
    show: Callable[[Finding], None],
) -> list[Finding]:
    around = surroundings()
    findings: list[Finding] = []
    waiting = Console(stderr=True).status("asking …") if sys.stderr.isatty() else None
    try:
        if waiting is not None:
            waiting.start()
        async for finding in examine(
            config,
            audit_url,
            environment=environment,
            application=application,
            surroundings=around,
        ):
            findings.append(finding)
            show(finding)
    finally:
        if waiting is not None:
            waiting.stop()
        await around.aclose()
    return findings


def as_document(findings: list[Finding]) -> dict[str, Any]:
    return {
        "worst": worst(findings).value,
        "lines": [finding.as_json() for finding in findings],
    }


class Shown:
    """Writes findings for a person, under a heading for each subject."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._subject: str | None = None

    def __call__(self, finding: Finding) -> None:
        if finding.subject != self._subject:
            before = "" if self._subject is None else "\n"
            self._console.print(Text(f"{before}{finding.subject}", style="bold cyan"))
            self._subject = finding.subject
        word, style = _MARKS[finding.level]
        line = Text.assemble(
            ("  ", ""), (f"{word:<8}", style), (f"{finding.step:<17}", "dim"), finding.text
        )
        code = finding.code
        if code is not None and code not in finding.text and finding.level is not Level.ADVICE:
            line.append(f" [{code}]", style="dim")
        self._console.print(line)
        if finding.remedy is not None:
            self._console.print(Text.assemble((" " * 27 + "► ", style), finding.remedy))

    def sum_up(self, findings: list[Finding]) -> None:
        counted = {level: sum(f.level is level for f in findings) for level in Level}
        parts = [
            Text(f"{counted[level]} {word}", style=style)
            for level, (word, style) in _MARKS.items()
            if counted[level]
        ]
        self._console.print(Text("\n").append_text(Text(", ").join(parts)))
