"""The broker in a process of its own, in full or with a stage switched off.

    python benchmarks/served.py PORT FOLDER [STAGE …]

`workers=N` forks so many on one port and one record, as `token-broker serve` has them.

FOLDER holds broker.yaml; the audit and the state go there too. Stages that can be switched off:

    record      nothing is kept: every record is said to be durable at once
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
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import SecretStr

from app.cli.serving import Settled, server_config
from app.dataverse.answer_headers import BodyKind
from app.limits.scheduler import Protection
from app.main import create_app
from app.settings import Settings
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def without(app: BrokerApp, stages: frozenset[str]) -> None:
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
    def __init__(self, config: uvicorn.Config, app: BrokerApp, stages: frozenset[str]) -> None:
        super().__init__(config)
        self._app = app
        self._stages = stages

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        without(self._app, self._stages)


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
    Served(server_config(settings, Settled(app)), app, stages).run([listener])


if __name__ == "__main__":
    main()
