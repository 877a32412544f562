"""`token-broker sandbox`: emulated Entra and Dataverse, the broker in front, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.cli.fronting import Front, broker_before_sandbox
from app.cli.outcome import say_json
from app.sandbox.run import SandboxOptions
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from pathlib import Path


def sandbox(
    *,
    state_dir: Path,
    port: int,
    entra_port: int,
    environments: Mapping[str, int],
    verbose: bool,
    as_json: bool,
) -> None:
    """Runs until it is interrupted. Raises `CouldNot` for a port that is taken."""
    level: Literal["INFO", "WARNING"] = "INFO" if verbose else "WARNING"
    configure(level=level, form="console")
    options = SandboxOptions(
        state_dir=state_dir, entra_port=entra_port, environment_ports=environments
    )

    async def run() -> None:
        async with broker_before_sandbox(options, port=port, log_level=level) as front:
            if as_json:
                say_json(described(front))
            else:
                show(front, Console())
            await asyncio.Event().wait()

    until_interrupted(run())


def until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, or until Ctrl-C or SIGTERM: those are how such a command is ended."""

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run())


def described(front: Front) -> dict[str, Any]:
    """All that a program needs to use what runs."""
    return {
        "broker": front.broker_url,
        "environments": {
            name: {
                "base_url": f"{front.broker_url}/environments/{name}",
                "dataverse": environment.url,
            }
            for name, environment in front.sandbox.environments.items()
        },
        "entra": front.sandbox.entra_url,
        "tenant_id": front.sandbox.tenant_id,
        "ca_file": str(front.ca_file),
        "configuration": str(front.configuration),
        "keys": dict(front.keys),
    }


def show(front: Front, console: Console) -> None:
    """Addresses, keys, and lines to copy that work."""
    console.print(
        Panel(
            _addresses(front),
            title="[bold]The sandbox runs[/]",
            subtitle="Ctrl-C stops it",
            border_style="green",
            expand=False,
        )
    )
    console.print(Text("API keys", style="bold"))
    for caller, key in front.keys.items():
        # Not wrapped, so that a key stays one word for whoever copies it.
        console.print(Text.assemble((f"  {caller:<16}", "cyan"), key), soft_wrap=True)
    console.print()
    console.print(Text("Try", style="bold"))
    for line in curl_lines(front):
        console.print(Text("  " + line), soft_wrap=True)


def curl_lines(front: Front) -> tuple[str, ...]:
    """Lines for a shell, each by itself."""
    environment = next(iter(front.sandbox.environments))
    base = f"{front.broker_url}/environments/{environment}/api/data/v9.2"

    def curl(caller: str, url: str) -> str:
        bearer = f"Authorization: Bearer {front.keys[caller]}"
        return f"curl -sS --globoff --cacert {front.ca_file} -H '{bearer}' '{url}'"

    return (
        curl("invoice-loader", f"{base}/accounts?$select=name&$top=3"),
        curl("invoice-loader", f"{front.broker_url}/callers/me"),
        curl("auditor", f"{front.broker_url}/audit/records?limit=5"),
    )


def _addresses(front: Front) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("broker", f"[bold]{front.broker_url}[/]")
    for name, environment in front.sandbox.environments.items():
        table.add_row(f"{name}, for clients", f"{front.broker_url}/environments/{name}")
        table.add_row(f"{name}, emulated Dataverse", environment.url)
    table.add_row("emulated Entra", front.sandbox.entra_url)
    table.add_row("CA certificate", Text(str(front.ca_file)))
    table.add_row("configuration", Text(str(front.configuration)))
    table.add_row("make it fail", f"{front.sandbox.entra_url}/_sandbox/faults")
    return table
