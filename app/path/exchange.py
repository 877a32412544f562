"""One request on its way: what becomes known of it, and the record that is made of that."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from app.audit.record import Identity, Record, timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from app.audit.record import Action, Decision, Outcome, Part, Phase, TableAccess
    from app.identity.caller import Caller


class Journal(Protocol):
    """Where records go. The awaitable is done when the record is durable."""

    def append(self, record: Record) -> Awaitable[None]: ...


class Observer(Protocol):
    """Counts what happens; may be lost."""

    def request(self, action: Action, decision: Decision, status: int, seconds: float) -> None: ...

    def refusal(self, code: str) -> None: ...

    def upstream(self, status: int, seconds: float) -> None: ...


class Exchange(msgspec.Struct):
    """Filled along the path. `record` tells what is known so far; nothing in it is a secret."""

    id: str
    request_id: str
    action: Action
    method: str
    client_address: str | None
    started: float = msgspec.field(default_factory=time.perf_counter)
    time: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    caller: Caller | None = None
    turned_away: str | None = None
    """A caller whose genuine credential did not let it in: an expired key, a disabled caller."""
    environment: str | None = None
    application: str | None = None
    target: str | None = None
    accesses: tuple[TableAccess, ...] = ()
    parts: tuple[Part, ...] = ()
    trace_id: str | None = None
    token_fingerprint: str | None = None
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    upstream_ms: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    attempts: int = 0
    """Times that it was sent to Dataverse."""
    waited_s: float = 0.0
    """In line for its turn, and between attempts."""
    reason: str | None = None
    intended: bool = False
    """Whether an intent is on record, so that an outcome must follow it."""
    concluded: bool = False
    """Whether the outcome is on record: there is one only."""

    def record(
        self,
        phase: Phase,
        decision: Decision,
        *,
        status: int | None = None,
        outcome: Outcome | None = None,
        reason: str | None = None,
    ) -> Record:
        caller = self.caller
        finished = phase == "outcome"
        return Record(
            phase=phase,
            id=self.id,
            time=timestamp(self.time),
            action=self.action,
            decision=decision,
            outcome=outcome,
            reason=reason if reason is not None else self.reason,
            caller=self.turned_away if caller is None else caller.name,
            identity=(
                None
                if caller is None
                else Identity(kind=caller.identity.kind, subject=caller.identity.id)
            ),
            client_address=self.client_address,
            environment=self.environment,
            application=self.application,
            method=self.method,
            target=self.target,
            accesses=self.accesses,
            status=status,
            upstream_status=self.upstream_status,
            upstream_request_id=self.upstream_request_id,
            request_id=self.request_id,
            trace_id=self.trace_id,
            duration_ms=self.elapsed_ms() if finished else None,
            upstream_ms=self.upstream_ms,
            bytes_in=self.bytes_in if finished else None,
            bytes_out=self.bytes_out if finished else None,
            token_fingerprint=self.token_fingerprint,
            parts=self.parts,
        )

    def elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 3)

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started


async def counted(stream: AsyncIterator[bytes], exchange: Exchange) -> AsyncIterator[bytes]:
    """A body that streams; how much of it has come is told by the record."""
    async for piece in stream:
        exchange.bytes_in += len(piece)
        yield piece
