"""Start the sandbox and the broker, play the day, and look at what the record holds afterwards."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
from rich.panel import Panel
from rich.text import Text

from app.audit.export import finished_records
from app.audit.keys import CheckpointKeys
from app.audit.offline import entries_at
from app.audit.verify import verify
from app.cli.fronting import broker_before_sandbox
from app.cli.sandboxing import show, until_interrupted
from app.demo.calls import ENVIRONMENT
from app.demo.day import Day
from app.demo.stage import console_of, opening, rows
from app.main import open_keyring
from app.sandbox.run import SandboxOptions
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from rich.console import Console

    from app.cli.fronting import Front
    from app.settings import Settings

KEPT_IN = Path(".sandbox")
"""Where keys and the record stay when the demo is kept: `token-broker sandbox` takes it up."""


def play(*, keep: bool, console: Console | None = None) -> int:
    """The exit code: 1 where something did not come out as it should."""
    shown = console or console_of()
    configure(level="WARNING", form="console")
    if keep:
        return _play_in(KEPT_IN, shown, keep=True)
    with tempfile.TemporaryDirectory(prefix="token-broker-demo-") as folder:
        return _play_in(Path(folder), shown, keep=False)


def _play_in(folder: Path, console: Console, *, keep: bool) -> int:
    began = time.perf_counter()
    unexpected = ["the demo was interrupted"]
    settings: list[Settings] = []

    async def run() -> None:
        options = SandboxOptions(state_dir=folder, environment_ports={ENVIRONMENT: 0})
        async with broker_before_sandbox(options) as front:
            settings.append(front.settings)
            opening(console, f"{front.broker_url}/environments/{ENVIRONMENT}")
            unexpected[:] = await _day(front, console)
            if keep:
                _summary(front.settings, console, unexpected, time.perf_counter() - began)
                show(front, console)
                await asyncio.Event().wait()

    until_interrupted(run())
    if settings and not keep:
        # The broker has stopped: what it signed last is the end of its chain.
        _summary(settings[0], console, unexpected, time.perf_counter() - began)
    return 1 if unexpected else 0


async def _day(front: Front, console: Console) -> list[str]:
    environment = front.sandbox.environments[ENVIRONMENT]
    context = front.client_context()
    async with httpx2.AsyncClient(verify=context, timeout=10, trust_env=False) as client:
        day = Day(
            client,
            broker_url=front.broker_url,
            dataverse_url=environment.url,
            keys=front.keys,
            console=console,
        )
        await day.play()
    return day.unexpected


def _summary(settings: Settings, console: Console, unexpected: list[str], took_s: float) -> None:
    """What the record holds, and whether it is as it was written."""
    stones, entries = entries_at(settings.audit_url.get_secret_value())
    kept = list(entries)
    keys = CheckpointKeys(key.public_key() for key in open_keyring(settings).checkpoints())
    verdict = verify(kept, keys=keys, tombstones=stones)
    if not verdict.good:
        unexpected.append(f"the record does not verify: {verdict.faults[0].detail}")
    records = list(finished_records(kept, now=datetime.now(UTC)))
    counted = Counter((record.caller or "(unknown)", record.decision) for record in records)
    table = rows(
        ("caller", "allowed", "refused"),
        [
            (caller, counted[caller, "allowed"] or "", counted[caller, "refused"] or "")
            for caller in dict.fromkeys(record.caller or "(unknown)" for record in records)
        ],
    )
    console.print(
        Panel(
            table,
            title=Text(" What the record holds ", style="bold"),
            title_align="left",
            border_style="blue",
            padding=(1, 2),
        )
    )
    good = not unexpected
    line = (
        f"{len(records)} requests, {verdict.entries} entries in a chain that verifies."
        if verdict.good
        else "The chain does not verify."
    )
    console.print(Text(line, style="green" if verdict.good else "bold red"))
    for text in unexpected:
        console.print(Text(f"Not as it should be: step {text}", style="bold red"))
    if good:
        console.print(Text(f"Everything came out as it should, in {took_s:.1f} s.", style="green"))
