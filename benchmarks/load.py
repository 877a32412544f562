"""Load from wrk on one core, and what a process on the other one spends for it."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOAD_CORE = 0
"""The load generator's and the upstream's; the process under test has the other one alone."""
TEST_CORE = 1

_DONE = re.compile(r"([0-9]+) requests in")
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_FAILED = re.compile(r"Non-2xx or 3xx responses: ([0-9]+)")
_SOCKETS = re.compile(r"Socket errors: connect ([0-9]+), read ([0-9]+), write ([0-9]+), timeout")
_PERCENTILE = re.compile(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s|m)\s*$", re.MULTILINE)
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One short run of wrk. CPU is of the process under test and its workers, a request."""

    requests: int
    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    url: str
    headers: tuple[tuple[str, str], ...] = ()


class LoadFailed(Exception):
    """The answers were not what was asked for, so that no figure means anything."""


def pin(pid: int, core: int) -> None:
    """All threads: a process that just started may have some already."""
    for task in _tasks(pid):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(task, {core})


def _tasks(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return []


def family(pid: int) -> list[int]:
    """The process and all its children."""
    found = [pid]
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
            for child in children.split():
                found += family(int(child))
    return found


def cpu_ns(pids: Iterable[int]) -> int:
    """CPU time of all threads so far, by the scheduler's own count."""
    spent = 0
    for pid in pids:
        for task in _tasks(pid):
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/task/{task}/schedstat").read_text(encoding="ascii")
                spent += int(stat.split()[0])
    return spent


def resident_kib(pids: Iterable[int]) -> int:
    return sum(_status_kib(pid, "VmRSS") for pid in pids)


def _status_kib(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def run_round(
    request: Request,
    pids: Sequence[int],
    *,
    connections: int,
    seconds: int,
    script: Path | None = None,
) -> Round:
    """`script` is wrk's own, in Lua. Raises `LoadFailed` where answers failed."""
    headers = [part for name, value in request.headers for part in ("-H", f"{name}: {value}")]
    before = cpu_ns(pids)
    said = subprocess.run(
        [
            *("taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}"),
            *(f"-d{seconds}s", "--latency", "--timeout", "20s", *headers),
            *(() if script is None else ("-s", str(script))),
            request.url,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    ).stdout
    spent = cpu_ns(pids) - before
    done = _number(_DONE, said)
    failed = _FAILED.search(said)
    sockets = _SOCKETS.search(said)
    if failed is not None or done == 0 or sockets is not None:
        raise LoadFailed(f"{request.url} answered badly:\n{said}")
    percentiles = {
        name: float(value) * _MS[unit] for name, value, unit in _PERCENTILE.findall(said)
    }
    if percentiles.keys() != {"50", "99"}:
        raise LoadFailed(f"wrk did not say how long it took:\n{said}")
    return Round(
        requests=int(done),
        per_s=_number(_RATE, said),
        cpu_us=spent / 1000 / max(done, 1),
        p50_ms=percentiles["50"],
        p99_ms=percentiles["99"],
    )


def _number(pattern: re.Pattern[str], said: str) -> float:
    found = pattern.search(said)
    if found is None:
        raise LoadFailed(f"wrk did not say how it went:\n{said}")
    return float(found[1])


def median(rounds: Sequence[Round]) -> Round:
    """Of each figure by itself: one bad second must not decide."""
    return Round(
        requests=sum(r.requests for r in rounds),
        per_s=statistics.median(r.per_s for r in rounds),
        cpu_us=statistics.median(r.cpu_us for r in rounds),
        p50_ms=statistics.median(r.p50_ms for r in rounds),
        p99_ms=statistics.median(r.p99_ms for r in rounds),
    )


def wait_for(port: int, process: subprocess.Popen[bytes], *, within_s: float = 30.0) -> None:
    """Until somebody listens. Raises `LoadFailed` when the process ends before."""
    import socket

    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise LoadFailed(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise LoadFailed(f"nothing listens on {port}")
