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
from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.audit.record import Decision, Outcome
    from app.path.exchange import Exchange, Journal, Observer


INTERNAL_ERROR = 500
"""The status of what nobody foresaw."""


class CallerLeft(Exception):
    """The caller hung up: nobody is there to answer."""


HUNG_UP = "the caller hung up"
"""The message of a cancellation that a caller caused, and not the broker's own end."""


class AnswerCut(Exception):
    """An answer had begun and cannot be finished: the connection must be cut."""


def unanswered(_error: BrokerError) -> int | None:
    """For where no error becomes an answer."""
    return None


@dataclass(frozen=True, slots=True)
class Recording:
    """Writes one exchange's records. `journal.append` only queues: awaiting makes durable.

    What is queued stays queued, whoever stops waiting: an exchange counts as concluded from that
    moment on, so that a caller who hangs up while the disk works gives it no second outcome.
    `status_of` tells with which HTTP status an error is answered.
    """

    journal: Journal
    observer: Observer
    status_of: Callable[[BrokerError], int | None] = unanswered

    async def intend(self, exchange: Exchange) -> None:
        """Raises `RecordUnavailable`: then nothing may be sent."""
        await self.journal.append(exchange.record("intent", "allowed"))
        exchange.intended = True

    async def conclude(self, exchange: Exchange, status: int) -> None:
        """The answer is about to leave whole. Raises `RecordUnavailable`: then it must not."""
        record = exchange.record("outcome", "allowed", status=status, outcome="completed")
        exchange.concluded = True
        try:
            await self.journal.append(record)
        except Unavailable:
            exchange.concluded = False
            raise
        self.observer.request(exchange.action, "allowed", status, exchange.elapsed_s())

    async def fail(
        self, exchange: Exchange, error: BaseException, *, status: int | None = None
    ) -> None:
        """The request ends otherwise. Raises `RecordUnavailable` instead of a lie."""
        if exchange.concluded:
            return
        decision, outcome, reason = _verdict(error)
        if isinstance(error, Unrecognised):
            # The answer is the same for every stranger; the record tells them apart.
            reason, exchange.turned_away = error.reason, error.caller
        if isinstance(error, BrokerError):
            self.observer.refusal(error.code)
            status = status or self.status_of(error)
        elif not isinstance(error, (CallerLeft, AnswerCut)):
            status = status or INTERNAL_ERROR
        exchange.concluded = True
        queued = self.journal.append(
            exchange.record("outcome", decision, status=status, outcome=outcome, reason=reason)
        )
        self.observer.request(exchange.action, decision, status or 0, exchange.elapsed_s())
        if isinstance(error, (CallerLeft, AnswerCut)):
            # Nobody is left to be told that the record failed.
            with contextlib.suppress(Unavailable):
                await queued
        else:
            await queued

    def stopped(self, exchange: Exchange) -> None:
        """The broker is stopping: the record is queued, and the journal's end makes it durable."""
        if not exchange.concluded:
            exchange.concluded = True
            self.journal.append(
                exchange.record("outcome", "error", outcome="stopped", reason="shutting-down")
            )


def _verdict(error: BaseException) -> tuple[Decision, Outcome, str]:
    if isinstance(error, CallerLeft):
        return "allowed", "caller_gone", "caller-gone"
    if isinstance(error, AnswerCut):
        return "allowed", *_cut_by(error.__cause__)
    if isinstance(error, UpstreamFailed):
        return "error", "upstream_failed", error.code
    if isinstance(error, Unavailable):
        return "error", "failed", error.code
    if isinstance(error, BrokerError):
        return "refused", "completed", error.code
    return "error", "failed", "internal-error"


def _cut_by(cause: BaseException | None) -> tuple[Outcome, str]:
    if isinstance(cause, UpstreamFailed):
        return "upstream_failed", cause.code
    if isinstance(cause, Unavailable):
        return "unrecorded", cause.code
    return "failed", cause.code if isinstance(cause, BrokerError) else "internal-error"
