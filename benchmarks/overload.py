"""More is asked for than can be carried: what those hear who get through, and those who do not.

    python benchmarks/overload.py               both bounds, eight seconds a step
    python benchmarks/overload.py --seconds 3   quicker

One broker in front of an upstream that takes 50 ms. Requests come at a pace that does not depend
on the answers (open loop): half of what can be carried, as much, twice and four times. A latency
counts from the moment in which the request was due. Two bounds, one after the other:

    Dataverse     it takes 52 at once and answers 429 beyond: the shares keep others out
    the broker    Dataverse takes all, nobody takes turns: the processor is the bound

Load and upstream are one process on one core, the broker has the other. What the load process
could not send in time is said: such a row means nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
import yaml

from app.identity.keys import generate
from benchmarks import peers
from benchmarks.load import LOAD_CORE, pin
from benchmarks.setting import CALLER, page, prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.setting import Setting

TOOK_S = 0.05
AT_ONCE = 52
CALLERS = 10
STEPS = (0.5, 1.0, 2.0, 4.0)
CONNECTIONS_MOST = 6000
DRAIN_S = 15.0
TARGET = "/environments/contoso/api/data/v9.2/accounts?$select=fullname,telephone1"
THROTTLED = (
    b'{"error":{"code":"0x80072326","message":"Number of concurrent requests exceeded the limit'
    b' of 52."}}'
)


# --------------------------------------------------------------------- the upstream


class Upstream:
    """Dataverse as far as this matters: 50 ms each, so many at once, 429 beyond."""

    def __init__(self, url: str) -> None:
        self.at_once: int | None = None
        self.running = 0
        self.refused = 0
        body = page("accounts", 2_000, url)
        self.well = _answer("200 OK", body, "OData-Version: 4.0\r\n")
        self.later = _answer("429 Too Many Requests", THROTTLED, "Retry-After: 1\r\n")

    def connection(self) -> asyncio.Protocol:
        return _Upstreams(self)


class _Upstreams(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._read.endswith(b"\r\n\r\n"):
            return
        self._read = b""
        upstream = self._upstream
        if upstream.at_once is not None and upstream.running >= upstream.at_once:
            upstream.refused += 1
            self._transport.write(upstream.later)
            return
        upstream.running += 1
        asyncio.get_running_loop().call_later(TOOK_S, self._done)

    def _done(self) -> None:
        self._upstream.running -= 1
        self._transport.write(self._upstream.well)


def _answer(status: str, body: bytes, more: str) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json; odata.metadata=minimal\r\n"
        f"{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# ------------------------------------------------------------------------- the load


@dataclass(slots=True)
class Step:
    """What came of the requests of one step."""

    offered_per_s: float
    seconds: float
    sent: int = 0
    late_s: float = 0.0
    """How far the load process fell behind, at the worst."""
    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    otherwise: Counter[str] = field(default_factory=Counter)

    def add(self, status: bytes, took_s: float, *, named_a_time: bool) -> None:
        if status == b"200":
            self.accepted_s.append(took_s)
        elif status == b"503" and named_a_time:
            self.refused_s.append(took_s)
        else:
            self.otherwise[status.decode()] += 1


class Connection(asyncio.Protocol):
    """Kept open; one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._read = b""
        self._asked: tuple[Step, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def ask(self, request: bytes, step: Step, due: float) -> None:
        self._asked = (step, due)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end:
            return
        lower = head.lower()
        _, named, length = lower.partition(b"\r\ncontent-length: ")
        if named:
            if len(body) < int(length.partition(b"\r\n")[0]):
                return
        elif not body.endswith(b"0\r\n\r\n"):
            return
        self._read = b""
        assert self._asked is not None
        step, due = self._asked
        self._asked = None
        took_s = time.perf_counter() - due
        step.add(head[9:12], took_s, named_a_time=b"\r\nretry-after: " in lower)
        self._load.answered(self, closes=b"\r\nconnection: close" in lower)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._asked is not None:
            self._asked[0].otherwise["broken off"] += 1
            self._asked = None
            self._load.answered(self, closes=True)


class Load:
    def __init__(self, port: int, keys: list[str]) -> None:
        self._port = port
        self._requests = [
            (
                f"GET {TARGET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                f"Authorization: Bearer {key}\r\nAccept: application/json\r\n\r\n"
            ).encode()
            for key in keys
        ]
        self._idle: deque[Connection] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._open = 0
        self._under_way = 0
        self._again: Callable[[Connection], None] | None = None

    async def at(self, per_s: float, seconds: float) -> Step:
        """Open loop: what is due is sent, whatever became of what was sent before."""
        step = Step(per_s, seconds)
        began = time.perf_counter()
        while (now := time.perf_counter() - began) < seconds:
            due = int(now * per_s)
            step.late_s = max(step.late_s, now - step.sent / per_s)
            while step.sent < due:
                self._send(step, began + (step.sent + 1) / per_s)
                step.sent += 1
            await asyncio.sleep(0.001)
        until = time.perf_counter() + DRAIN_S
        while self._under_way and time.perf_counter() < until:  # noqa: ASYNC110 - a hot path sets it
            await asyncio.sleep(0.01)
        if self._under_way:
            step.otherwise["no answer"] += self._under_way
        return step

    async def as_fast_as_it_goes(self, connections: int, seconds: float) -> float:
        """Closed loop: answers a second."""
        step = Step(0.0, seconds)
        began = time.perf_counter()

        def again(connection: Connection) -> None:
            if time.perf_counter() - began < seconds:
                self._under_way += 1
                connection.ask(self._requests[0], step, time.perf_counter())
            else:
                self._idle.append(connection)

        self._again = again
        for _ in range(connections):
            self._send(step, began)
        while self._under_way:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        self._again = None
        return len(step.accepted_s) / seconds

    def answered(self, connection: Connection, *, closes: bool) -> None:
        self._under_way -= 1
        if closes:
            self._open -= 1
        elif self._again is not None:
            self._again(connection)
        else:
            self._idle.append(connection)

    def _send(self, step: Step, due: float) -> None:
        self._under_way += 1
        request = self._requests[step.sent % len(self._requests)]
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                connection.ask(request, step, due)
                return
            self._open -= 1
        if self._open >= CONNECTIONS_MOST:
            self._under_way -= 1
            step.otherwise["no connection left"] += 1
            return
        self._open += 1
        task = asyncio.get_running_loop().create_task(self._opened(request, step, due))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _opened(self, request: bytes, step: Step, due: float) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), "127.0.0.1", self._port
            )
        except OSError:
            step.otherwise["not connected"] += 1
            self._open -= 1
            self._under_way -= 1
            return
        connection.ask(request, step, due)


# ---------------------------------------------------------------------- what came of it


def print_step(part: float, step: Step) -> None:
    def ms(latencies_s: list[float], percent: int) -> str:
        if len(latencies_s) < 2:
            return "-"
        return f"{statistics.quantiles(latencies_s, n=100)[percent - 1] * 1000:.0f}"

    otherwise = ", ".join(f"{count} x {what}" for what, count in sorted(step.otherwise.items()))
    if step.late_s > 0.1:
        otherwise += f"   (the load itself was {step.late_s:.1f} s late)"
    print(
        f"{part:>4g} x{step.offered_per_s:>9,.0f}{len(step.accepted_s) / step.seconds:>12,.0f}"
        f"{ms(step.accepted_s, 50):>8}{ms(step.accepted_s, 99):>8}"
        f"{len(step.refused_s) / step.seconds:>12,.0f}"
        f"{ms(step.refused_s, 50):>8}{ms(step.refused_s, 99):>8}   {otherwise}",
        flush=True,
    )


async def steps(load: Load, capacity: float, seconds: float, title: str) -> None:
    print(f"\n{title}: it can carry {capacity:,.0f} a second")
    print(
        f"{'':>6}{'offered':>9}{'accepted/s':>12}{'p50 ms':>8}{'p99 ms':>8}"
        f"{'refused/s':>12}{'p50 ms':>8}{'p99 ms':>8}   otherwise"
    )
    await load.at(capacity / 4, 2.0)
    for part in STEPS:
        print_step(part, await load.at(capacity * part, seconds))
    # It is as it was: whoever was turned away may come again.
    print("afterwards")
    print_step(STEPS[0], await load.at(capacity * STEPS[0], seconds))


def keys_of(setting: Setting) -> list[str]:
    """Ten callers with one's grants: nobody fills the line by himself."""
    file = setting.brokers_folder(tls=False) / "broker.yaml"
    configuration = yaml.safe_load(file.read_text(encoding="utf-8"))
    keys: list[str] = []
    for number in range(CALLERS):
        key, _ = generate(f"caller-{number}")
        keys.append(key)
        configuration["callers"][f"caller-{number}"] = configuration["callers"][CALLER] | {
            "identities": [{"api_key": {"sha256": hashlib.sha256(key.encode()).hexdigest()}}]
        }
    text = yaml.safe_dump(yaml.safe_load(yaml.safe_dump(configuration)))
    file.write_text(text, encoding="utf-8")
    return keys


async def measured(setting: Setting, upstream: Upstream, seconds: float) -> None:
    keys = keys_of(setting)
    upstream.at_once = AT_ONCE
    with peers.broker(setting, f"concurrency={AT_ONCE}", tls=False) as broker:
        await steps(Load(broker.port, keys), AT_ONCE * 0.9 / TOOK_S, seconds, "Dataverse's bound")
    print(f"Dataverse answered {upstream.refused} x 429")
    upstream.at_once = None
    with peers.broker(setting, "shares", tls=False) as broker:
        load = Load(broker.port, keys)
        await load.as_fast_as_it_goes(400, 2.0)
        capacity = await load.as_fast_as_it_goes(400, 4.0)
        await steps(load, capacity, seconds, "the broker's bound")


async def run(folder: Path, seconds: float) -> None:
    port = peers.free_port()
    upstream = Upstream(f"http://127.0.0.1:{port}")
    server = await asyncio.get_running_loop().create_server(upstream.connection, "127.0.0.1", port)
    async with server:
        with prepared(folder, upstream_port=port, upstream_tls_port=peers.free_port()) as setting:
            await measured(setting, upstream, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a step lasts")
    wanted = parser.parse_args()
    pin(os.getpid(), LOAD_CORE)
    with tempfile.TemporaryDirectory(prefix="overload-") as name:
        uvloop.run(run(Path(name), wanted.seconds))


if __name__ == "__main__":
    main()
