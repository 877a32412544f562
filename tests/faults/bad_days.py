"""A broker in front of the sandbox whose stage of the tokens is given its clock and patience.

Hours pass in the moment they take to be told: sandbox and broker look at one clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msal.oauth2cli.assertion
import pytest

import app.main
from app.config.watching import Watcher
from app.sandbox.credentials import WITH_SECRET
from app.sandbox.entra.tokens import Lifetime
from app.sandbox.run import SandboxOptions, sandbox_in_thread
from app.tokens.key_vault import KeyVaults
from app.tokens.service import TokenService
from tests.path.running import until
from tests.path.staging import sandboxing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from app.sandbox.entra.directory import RegisteredApplication
    from app.sandbox.run import Sandbox
    from tests.path.raw_http import RawAnswer
    from tests.path.running import RunningBroker
    from tests.path.staging import Configuration

LIFETIME = timedelta(minutes=75)
"""Entra's average."""

ACCOUNTS = "/environments/contoso/api/data/v9.2/accounts?$select=name&$top=1"


@dataclass(slots=True)
class MovedClock:
    """This machine's clocks, ahead by as much as a test says."""

    ahead_s: float = 0.0
    wall_ahead_s: float = 0.0
    """Of the broker's wall clock alone."""

    def wall(self) -> float:
        return time.time() + self.ahead_s + self.wall_ahead_s

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    async def sleep(self, seconds: float) -> None:
        # Whoever sleeps looks at the clock when he wakes, so he may wake early.
        await asyncio.sleep(min(seconds, 0.02))

    def now(self) -> datetime:
        """For the sandbox."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    def pass_by(self, **time_: float) -> None:
        self.ahead_s += timedelta(**time_).total_seconds()


@dataclass(slots=True)
class Day:
    """A broker, what is behind it, and the time of the day."""

    broker: RunningBroker
    sandbox: Sandbox
    clock: MovedClock
    folder: Path
    token_requests_before: int = field(default=0)

    def ask(self, caller: str = "invoice-loader", target: str = ACCOUNTS) -> RawAnswer:
        return self.broker.ask("GET", target, caller=caller)

    def forget_tokens(self, application: str = WITH_SECRET) -> None:
        answer = self.broker.ask("DELETE", f"/applications/{application}/tokens", caller="operator")
        assert answer.status == 200, answer.text

    def credentials(self, application: str = WITH_SECRET) -> list[dict[str, Any]]:
        """As the operator sees them."""
        told = self.broker.ask("GET", "/applications", caller="operator").json()["applications"]
        found: list[dict[str, Any]] = next(a for a in told if a["name"] == application)[
            "credentials"
        ]
        return found

    def readiness(self) -> tuple[int, str]:
        """The status, and what is said of credentials."""
        answer = self.broker.ask("GET", "/readyz")
        checks = {check["name"]: check for check in answer.json()["checks"]}
        detail: str = checks["credentials"]["detail"]
        return answer.status, detail

    def until(self, found: Callable[[], object]) -> None:
        until(lambda: found() or None)

    def registered(self, application: str = WITH_SECRET) -> RegisteredApplication:
        client_id = self.sandbox.applications[application].client_id
        return self.sandbox.tenant.applications[client_id]

    def settle(self) -> None:
        """Wait for renewals that are under way: no assertion is ten minutes on its way to Entra."""
        tasks = self.broker.running.tokens._tasks
        self.until(lambda: self.broker.on_loop(lambda: len(tasks) <= 1))

    @property
    def token_requests(self) -> int:
        """Since `count_from_here`."""
        return self.sandbox.entra.token_requests - self.token_requests_before

    def count_from_here(self) -> None:
        self.token_requests_before = self.sandbox.entra.token_requests


@contextlib.contextmanager
def day(
    folder: Path,
    *,
    change: Callable[[Configuration, Sandbox], None] = lambda _configuration, _sandbox: None,
    prepare: Callable[[Sandbox], None] = lambda _: None,
    patience_s: float = 15.0,
    environments: tuple[str, ...] = ("contoso",),
    entra_ahead: timedelta = timedelta(0),
) -> Iterator[Day]:
    """`change` is done to the configuration, `prepare` to the sandbox before the broker starts."""
    clock = MovedClock()
    options = SandboxOptions(
        state_dir=folder / "sandbox",
        environment_ports=dict.fromkeys(environments, 0),
        lifetime=Lifetime(expires_in=LIFETIME),
        clock=lambda: clock.now() + entra_ahead,
    )
    with sandbox_in_thread(options) as sandbox, pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            app.main,
            "TokenService",
            functools.partial(TokenService, clock=clock, patience_s=patience_s),
        )
        # MSAL dates its assertions by a clock of its own.
        patched.setattr(msal.oauth2cli.assertion, "time", SimpleNamespace(time=clock.wall))
        patched.setattr(app.main, "KeyVaults", lambda: KeyVaults(ca_file=sandbox.ca_file))
        patched.setattr(app.main, "Watcher", functools.partial(Watcher, poll_s=0.05))
        # Who the broker is to the vault.
        endpoint = f"{sandbox.managed_identity_url}/msi/token"
        patched.setenv("IDENTITY_ENDPOINT", endpoint)
        patched.setenv("IDENTITY_HEADER", sandbox.managed_identity.identity_header)
        prepare(sandbox)
        with sandboxing(
            sandbox, folder, change=lambda configuration: change(configuration, sandbox)
        ) as broker:
            yield Day(broker, sandbox, clock, folder)
