"""The broker in a process of its own: `token-broker serve`, to be stopped or killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.path.reaching import Reachable, until

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(slots=True, kw_only=True)
class ServedBroker(Reachable):
    process: subprocess.Popen[bytes]
    log_file: Path
    """All that it writes, on either stream."""

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def gone(self, *, within_s: float = 20.0) -> int:
        """Its exit code."""
        return self.process.wait(within_s)

    def listens(self) -> bool:
        try:
            return self.ask("GET", "/readyz").status == 200
        except OSError:
            return False


@contextlib.contextmanager
def served_broker(
    folder: Path,
    file: Path,
    *,
    port: int,
    keys: dict[str, str],
    environment: dict[str, str] | None = None,
) -> Iterator[ServedBroker]:
    """Ready when the block begins; gone, one way or the other, when it ends."""
    audit_file = folder / "audit.db"
    log_file = folder / "broker.log"
    settings = {
        "BROKER_CONFIG": str(file),
        "BROKER_HOST": "127.0.0.1",
        "BROKER_PORT": str(port),
        "BROKER_STATE_DIR": str(folder / "state"),
        "BROKER_AUDIT_URL": f"sqlite:///{audit_file}",
        "BROKER_LOG_LEVEL": "DEBUG",
    }
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"],
            env={**os.environ, **settings, **(environment or {})},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    broker = ServedBroker(
        port=port, audit_file=audit_file, keys=keys, process=process, log_file=log_file
    )
    try:
        until(lambda: _ready(broker) or None)
        yield broker
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def _ready(broker: ServedBroker) -> bool:
    if broker.process.poll() is not None:
        raise AssertionError(f"the broker ended while it started:\n{broker.log()}")
    return broker.listens()
