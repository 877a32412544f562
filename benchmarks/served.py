"""The broker in a process of its own, in full or with a stage switched off.

    python benchmarks/served.py PORT FOLDER [STAGE …]

`workers=N` forks so many on one port and one record, as `token-broker serve` has them.

FOLDER holds broker.yaml; the audit and the state go there too. Stages that can be switched off:

    record      nothing is kept: every record is said to be durable at once
    disk        the least that durable can mean, in the record's stead: a thread appends its bytes
                to a file and syncs it. FOLDER/disk-PORT says at the end what an append and its
                fdatasync took where no other one waited, in µs: the median
    memory      every decision is made anew, none is remembered
    metrics     nothing is counted
    links       answers pass as they are, links unchanged
    shares      nobody waits for a turn, and nobody is told that Dataverse wants to hear nothing

`window=SECONDS` keeps Dataverse's limits, as much of them as so long a window has, and
`concurrency=REQUESTS` that one alone; without either the upstream is taken to have none, as the one
of these measurements.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import SecretStr

from app.audit.record import encode
from app.cli.serving import Settled, server_config
from app.dataverse.answer_headers import BodyKind
from app.limits.scheduler import Protection
from app.main import create_app
from app.settings import Settings
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.audit.record import Record
    from app.main import BrokerApp


class NoShares:
    """Everybody goes at once."""

    def choose(self, applications: Sequence[str], environment: str) -> str:
        del environment
        return applications[0]

    def enter_now(self, *_: Any) -> NoShares:
        return self

    async def enter(self, *_: Any, **__: Any) -> NoShares:
        return self

    def leave(self) -> None: ...

    def exceeded(self, *_: Any) -> None: ...

    def paused_s(self, *_: Any) -> float:
        return 0.0


UNPROTECTED = Protection(requests=1e9, execution_s=1e9, concurrency=1e6)


class NothingKept:
    """A journal for which everything is durable at once."""

    def __init__(self) -> None:
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)

    def append(self, record: Any) -> asyncio.Future[None]:
        del record
        return self._done


class BareAppend:
    """A journal that is a file and one fdatasync for each record."""

    def __init__(self, result: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = os.open(f"{result}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._result = result
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None]
        self._waiting = queue.SimpleQueue()
        self._took: list[float] = []
        threading.Thread(target=self._write, daemon=True).start()

    def append(self, record: Record) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((encode(record), future))
        return future

    def close(self) -> None:
        self._result.write_text(f"{statistics.median(self._took or [0.0]) * 1e6:.1f}")

    def _write(self) -> None:
        while item := self._waiting.get():
            body, future = item
            began = time.perf_counter()
            os.write(self._file, body)
            os.fdatasync(self._file)
            if self._waiting.empty():
                self._took.append(time.perf_counter() - began)
            self._loop.call_soon_threadsafe(self._settle, future)

    def _settle(self, future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)


class NothingCounted:
    def request(self, *_: Any) -> None: ...

    def refusal(self, *_: Any) -> None: ...

    def upstream(self, *_: Any) -> None: ...


def protection_of(stages: frozenset[str]) -> Protection:
    for stage in stages:
        name, _, value = stage.partition("=")
        if name == "concurrency" and value:
            return Protection(requests=1e9, execution_s=1e9, concurrency=float(value))
        if name == "window" and value:
            part = float(value) / 300.0
            whole = Protection()
            return Protection(
                requests=whole.requests * part,
                execution_s=whole.execution_s * part,
                window_s=float(value),
            )
    return UNPROTECTED


def without(app: BrokerApp, stages: frozenset[str], disk: BareAppend | None = None) -> None:
    """Replaces parts of a broker that is open: what stays runs as it always does."""
    assert app.running is not None
    broker = app.running.broker
    app.running.shares._protection = protection_of(stages)  # noqa: SLF001
    app.running.shares._lanes.clear()  # noqa: SLF001
    if "shares" in stages:
        broker.carrier._sender._shares = NoShares()  # noqa: SLF001
    recording = broker.recording
    if "record" in stages:
        object.__setattr__(recording, "journal", NothingKept())
    if disk is not None:
        object.__setattr__(recording, "journal", disk)
    if "metrics" in stages:
        object.__setattr__(recording, "observer", NothingCounted())
        broker.carrier._sender._observer = NothingCounted()  # noqa: SLF001
    if "memory" in stages:
        object.__setattr__(broker.judge, "remember", lambda *_: None)
    if "links" in stages:
        from app.path import carrying

        opaque = BodyKind.OPAQUE
        vars(carrying)["body_kind"] = lambda _: opaque


class Served(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, app: BrokerApp, stages: frozenset[str], disk: Path
    ) -> None:
        super().__init__(config)
        self._app = app
        self._stages = stages
        self._path = disk
        self._disk: BareAppend | None = None

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if "disk" in self._stages:
            self._disk = BareAppend(self._path)
        without(self._app, self._stages, self._disk)

    async def shutdown(self, sockets: Any = None) -> None:
        await super().shutdown(sockets)
        if self._disk is not None:
            self._disk.close()


def forked(workers: int) -> None:
    """Returns in each worker; whoever waits for them ends them when it is told to end."""
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            return
        children.append(child)

    def stop(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        os.waitpid(child, 0)
    sys.exit()


def main() -> None:
    port, folder, stages = int(sys.argv[1]), Path(sys.argv[2]), frozenset(sys.argv[3:])
    configure(level="WARNING", form="console")
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    for stage in stages:
        name, _, value = stage.partition("=")
        if name == "workers":
            forked(int(value))
    settings = Settings(
        config=folder / "broker.yaml",
        port=port,
        state_dir=folder / f"state-{port}",
        audit_url=SecretStr(f"sqlite:///{folder / f'audit-{port}.db'}"),
    )
    app = create_app(settings)
    # As `serve` does it.
    config = server_config(settings, Settled(app))
    Served(config, app, stages, folder / f"disk-{port}").run([listener])


if __name__ == "__main__":
    main()
