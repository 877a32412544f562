"""When what is recorded of a request: the moments that law 4 names.

A write's intent is durable before it is sent. A read's record is durable before the first byte
of its answer leaves: its outcome where the whole answer is here by then, an intent otherwise.
Every outcome is durable before the last byte.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import BrokerError, Unavailable, UpstreamFailed

if TYPE_CHECKING:
    from app.audit.record import Decision, Outcome
    from app.path.exchange import Exchange, Journal, Observer

REFUSED_BELOW = 500
"""Errors with a lower status are the caller's: refused. From here on they are ours."""


class CallerLeft(Exception):
    """The caller hung up: nobody is there to answer."""


HUNG_UP = "the caller hung up"
"""The message of a cancellation that a caller caused, and not the broker's own end."""


class AnswerCut(Exception):
    """An answer had begun and cannot be finished: the connection must be cut."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Writes one exchange's records. `journal.append` only queues: awaiting makes durable."""

    journal: Journal
    observer: Observer

    async def intend(self, exchange: Exchange) -> None:
        """Raises `RecordUnavailable`: then nothing may be sent."""
        await self.journal.append(exchange.record("intent", "allowed"))
        exchange.intended = True

    async def conclude(self, exchange: Exchange, status: int) -> None:
        """The answer is about to leave whole. Raises `RecordUnavailable`: then it must not."""
        await self.journal.append(
            exchange.record("outcome", "allowed", status=status, outcome="completed")
        )
        exchange.concluded = True
        self.observer.request(exchange.action, "allowed", status, exchange.elapsed_s())

    async def fail(self, exchange: Exchange, error: BaseException) -> None:
        """The request ends otherwise. Raises `RecordUnavailable` instead of a lie."""
        if exchange.concluded:
            return
        decision, outcome, reason = _verdict(error)
        if isinstance(error, BrokerError):
            self.observer.refusal(error.code)
        record = exchange.record("outcome", decision, outcome=outcome, reason=reason)
        if isinstance(error, (CallerLeft, AnswerCut)):
            # Nobody is left to be told that the record failed.
            with contextlib.suppress(Unavailable):
                await self.journal.append(record)
        else:
            await self.journal.append(record)
        self.observer.request(exchange.action, decision, 0, exchange.elapsed_s())

    def stopped(self, exchange: Exchange) -> None:
        """The broker is stopping: the record is queued, and the journal's end makes it durable."""
        if not exchange.concluded:
            self.journal.append(
                exchange.record("outcome", "error", outcome="stopped", reason="shutting-down")
            )


def _verdict(error: BaseException) -> tuple[Decision, Outcome, str]:
    if isinstance(error, CallerLeft):
        return "allowed", "caller_gone", "caller-gone"
    if isinstance(error, AnswerCut):
        cause = error.__cause__
        code = cause.code if isinstance(cause, BrokerError) else "internal-error"
        return "allowed", "upstream_failed" if isinstance(cause, UpstreamFailed) else "failed", code
    if isinstance(error, UpstreamFailed):
        return "error", "upstream_failed", error.code
    if isinstance(error, Unavailable):
        return "error", "failed", error.code
    if isinstance(error, BrokerError):
        return "refused", "completed", error.code
    return "error", "failed", "internal-error"
