"""The broker in a process of its own, in full or with a stage switched off.

    python benchmarks/served.py PORT FOLDER [STAGE …]

FOLDER holds broker.yaml; the audit and the state go there too. Stages that can be switched off:

    record      nothing is kept: every record is said to be durable at once
    memory      every decision is made anew, none is remembered
    metrics     nothing is counted
    links       answers pass as they are, links unchanged
"""

from __future__ import annotations

import asyncio
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
    from app.main import BrokerApp


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


def without(app: BrokerApp, stages: frozenset[str]) -> None:
    """Replaces parts of a broker that is open: what stays runs as it always does."""
    assert app.running is not None
    broker = app.running.broker
    # The upstream of these measurements has no service protection; the shares are kept as ever.
    app.running.shares._protection = UNPROTECTED  # noqa: SLF001
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


def main() -> None:
    port, folder, stages = int(sys.argv[1]), Path(sys.argv[2]), frozenset(sys.argv[3:])
    configure(level="WARNING", form="console")
    settings = Settings(
        config=folder / "broker.yaml",
        port=port,
        state_dir=folder / f"state-{port}",
        audit_url=SecretStr(f"sqlite:///{folder / f'audit-{port}.db'}"),
    )
    app = create_app(settings)
    # As `serve` does it.
    Served(server_config(settings, Settled(app)), app, stages).run()


if __name__ == "__main__":
    main()
