"""One caller floods, nine are modest: what each gets of Dataverse's limits, shared and unshared.

    python benchmarks/fairness.py               the real limits, a whole window (8 minutes)
    python benchmarks/fairness.py --window 30   a tenth of them in a tenth of the time

The sandbox keeps Dataverse's service-protection limits (6,000 requests, 1,200 s of execution, 52
at once, in 300 s) and takes 100 ms for each request. Nine callers ask once a second, whatever
comes of it; the tenth asks with a hundred connections as fast as it is answered. All use one
application. Three runs: the nine alone, all ten with the broker's shares, all ten without.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from app.dataverse.client import UpstreamClient
from app.dataverse.message import UpstreamRequest
from app.errors import BrokerError
from app.identity.keys import generate
from app.sandbox.dataverse.faults import slow
from app.sandbox.dataverse.protection import Limits
from app.sandbox.run import SandboxOptions, sandbox_in_thread, write_configuration
from benchmarks import peers
from benchmarks.load import TEST_CORE

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEST = tuple(f"modest-{number}" for number in range(1, 10))
NOISY = "noisy"
NOISY_CONNECTIONS = 100
TOOK_S = 0.1
TARGET = b"/environments/contoso/api/data/v9.2/accounts?$select=name&$top=1"


@dataclass(slots=True)
class Served:
    """What one caller got."""

    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def well(self) -> int:
        return self.statuses[200]

    def percentile_ms(self, percent: int) -> float:
        if len(self.latencies_s) < 2:
            return float("nan")
        return statistics.quantiles(self.latencies_s, n=100)[percent - 1] * 1000


@dataclass(frozen=True, slots=True)
class Run:
    by_caller: dict[str, Served]
    upstream: dict[int, int]
    seconds: float


class Load:
    def __init__(self, port: int, keys: dict[str, str], seconds: float) -> None:
        self._client = UpstreamClient(f"http://127.0.0.1:{port}", connections=1000)
        self._keys = keys
        self._seconds = seconds

    async def run(self, *, noisy: bool) -> dict[str, Served]:
        served = {name: Served() for name in (*MODEST, *([NOISY] if noisy else []))}
        until = time.monotonic() + self._seconds
        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(MODEST):
                group.create_task(self._modest(served[name], name, number / len(MODEST), until))
            if noisy:
                for _ in range(NOISY_CONNECTIONS):
                    group.create_task(self._noisy(served[NOISY], until))
        await self._client.aclose()
        return served

    async def _modest(self, served: Served, name: str, offset_s: float, until: float) -> None:
        """Once a second, whether the one before was answered or not."""
        due = time.monotonic() + offset_s
        async with asyncio.TaskGroup() as group:
            while due < until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._ask(served, name, until))
                due += 1.0

    async def _noisy(self, served: Served, until: float) -> None:
        while time.monotonic() < until:
            if await self._ask(served, NOISY, until) != 200:
                await asyncio.sleep(0.05)

    async def _ask(self, served: Served, name: str, until: float) -> int:
        """What is not answered by the end of the run was not served."""
        served.asked += 1
        began = time.monotonic()
        key = (b"Authorization", b"Bearer " + self._keys[name].encode())
        status = 0
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(max(0.5, until + 1.0 - began)):
                answer = await self._client.send(
                    UpstreamRequest("GET", TARGET, (key,)), timeout_s=150
                )
                try:
                    async for _ in answer.chunks():
                        pass
                finally:
                    await answer.aclose()
                status = answer.status
        served.statuses[status] += 1
        if status == 200:
            served.latencies_s.append(time.monotonic() - began)
        return status


async def scraped(port: int) -> dict[int, int]:
    """Requests to Dataverse by status, from the broker's own metrics."""
    client = UpstreamClient(f"http://127.0.0.1:{port}")
    answer = await client.send(UpstreamRequest("GET", b"/metrics", ()), timeout_s=10)
    text = b"".join([piece async for piece in answer.chunks()]).decode()
    await client.aclose()
    found = re.findall(r'broker_upstream_requests_total\{status="(\d+)"\} ([0-9.e+]+)', text)
    return {int(status): int(float(count)) for status, count in found}


def configured(folder: Path, sandbox: Any) -> dict[str, str]:
    """All ten under the same grant and the same application. Gives their keys."""
    file = write_configuration(folder, sandbox, broker_url="http://broker.example")
    configuration = yaml.safe_load(file.read_text(encoding="utf-8"))
    grants = configuration["callers"]["reporting"]["grants"]
    keys: dict[str, str] = {}
    for name in (*MODEST, NOISY):
        keys[name], _ = generate(name)
        sha256 = hashlib.sha256(keys[name].encode()).hexdigest()
        configuration["callers"][name] = {
            "identities": [{"api_key": {"sha256": sha256}}],
            "default_environment": "contoso",
            "grants": yaml.safe_load(yaml.safe_dump(grants)),
        }
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    return keys


@contextlib.contextmanager
def broker(folder: Path, window_s: float, *, shares: bool) -> Iterator[int]:
    port = peers.free_port()
    stages = [f"window={window_s:g}", *([] if shares else ["shares"])]
    command = [sys.executable, str(peers.HERE / "served.py"), str(port), str(folder), *stages]
    with peers.started("broker", command, port, core=TEST_CORE):
        yield port


def one_run(window_s: float, seconds: float, *, noisy: bool, shares: bool) -> Run:
    part = window_s / 300.0
    limits = Limits(
        requests=int(6000 * part), execution_s=1200.0 * part, concurrency=52, window_s=window_s
    )
    with (
        tempfile.TemporaryDirectory(prefix="fairness-") as name,
        sandbox_in_thread(SandboxOptions(state_dir=Path(name) / "s", limits=limits)) as sandbox,
    ):
        folder = Path(name)
        keys = configured(folder, sandbox)
        sandbox.dataverse.faults.add(slow(TOOK_S, path="/accounts"))
        with broker(folder, window_s, shares=shares) as port:
            asyncio.run(_ready(port))
            before = asyncio.run(scraped(port))
            served = asyncio.run(Load(port, keys, seconds).run(noisy=noisy))
            after = asyncio.run(scraped(port))
    upstream = {status: count - before.get(status, 0) for status, count in after.items()}
    return Run(served, {status: count for status, count in upstream.items() if count}, seconds)


async def _ready(port: int) -> None:
    client = UpstreamClient(f"http://127.0.0.1:{port}")
    for _ in range(300):
        answer = await client.send(UpstreamRequest("GET", b"/readyz", ()), timeout_s=10)
        await answer.aclose()
        if answer.status == 200:
            break
        await asyncio.sleep(0.1)
    await client.aclose()


# ------------------------------------------------------------------ what came of it


def together(run: Run, names: tuple[str, ...]) -> Served:
    whole = Served()
    for name in names:
        one = run.by_caller[name]
        whole.asked += one.asked
        whole.statuses += one.statuses
        whole.latencies_s += one.latencies_s
    return whole


def print_run(title: str, run: Run) -> None:
    print(f"\n{title}")
    print(f"{'':<12}{'asked':>8}{'served':>8}{'':>8}{'p50 ms':>10}{'p99 ms':>10}   otherwise")
    groups: list[tuple[str, tuple[str, ...]]] = [("the nine", MODEST)]
    if NOISY in run.by_caller:
        groups.append((NOISY, (NOISY,)))
    for said, names in groups:
        served = together(run, names)
        share = f"{served.well / max(1, served.asked):.1%}"
        others = ", ".join(
            f"{count} x {status or 'no answer'}"
            for status, count in sorted(served.statuses.items())
            if status != 200
        )
        print(
            f"{said:<12}{served.asked:>8}{served.well:>8}{share:>8}"
            f"{served.percentile_ms(50):>10.0f}{served.percentile_ms(99):>10.0f}   {others}"
        )
    said = ", ".join(f"{count} x {status}" for status, count in sorted(run.upstream.items()))
    print(f"Dataverse answered {said}")


def print_goals(alone: Run, shared: Run, limit_per_s: float) -> None:
    before, after = together(alone, MODEST), together(shared, MODEST)
    kept = after.well / max(1, before.well)
    slower = after.percentile_ms(99) / before.percentile_ms(99)
    well = shared.upstream.get(200, 0)
    used = well / (limit_per_s * shared.seconds)
    throttled = shared.upstream.get(429, 0) / max(1, well)
    print("\ngoals")
    for said, reached in (
        (f"the nine keep {kept:.1%} of their throughput (goal >= 95 %)", kept >= 0.95),
        (f"their p99 is {slower:.2f} x what it is alone (goal <= 2)", slower <= 2.0),
        (f"{used:.1%} of the limit is used (goal >= 90 %)", used >= 0.90),
        (f"{throttled:.2%} of the answers are 429 (no storm: <= 1 %)", throttled <= 0.01),
    ):
        print(f"  {said}{'' if reached else '   MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--window", type=float, default=300.0, help="seconds of the limits")
    parser.add_argument("--windows", type=float, default=1.0, help="how many a run lasts")
    wanted = parser.parse_args()
    seconds = wanted.window * wanted.windows
    alone = one_run(wanted.window, min(seconds, 60.0), noisy=False, shares=True)
    # As long as the others, so that what was served can be compared.
    factor = seconds / alone.seconds
    for served in alone.by_caller.values():
        served.asked = round(served.asked * factor)
        served.statuses = Counter({s: round(n * factor) for s, n in served.statuses.items()})
    print_run("the nine alone", alone)
    shared = one_run(wanted.window, seconds, noisy=True, shares=True)
    print_run("all ten, with shares", shared)
    print_goals(alone, shared, 6000 / 300)
    print_run("all ten, without", one_run(wanted.window, seconds, noisy=True, shares=False))


if __name__ == "__main__":
    main()
