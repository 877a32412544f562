"""One request sent to Dataverse, in its turn, and again where that is safe and wanted.

`dataverse.retries` decides about another try; here is what it takes: the turn, the token, the
waiting, and another application of the pool where one is told to wait.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from app.dataverse.failures import ExchangeFailed
from app.dataverse.message import UpstreamRequest
from app.dataverse.retries import (
    ATTEMPTS_MAX,
    Again,
    Stop,
    Tries,
    after_answer,
    after_failure,
)
from app.dataverse.throttling import limits_left, retry_after_of, throttling_of
from app.errors import UpstreamFailed
from app.limits.scheduler_budget import Exceeded
from app.path.kept_answer import keep
from app.path.refused_token import refused_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import timedelta

    from app.dataverse.message import Headers, UpstreamAnswer
    from app.dataverse.throttling import LimitsLeft
    from app.limits.scheduler import Share
    from app.path.errand import Errand, Prepared
    from app.path.exchange import Observer
    from app.tokens.lease import Lease

HEAD_TIMEOUT_S: Final = 120.0
"""How long Dataverse may think before an answer begins: its own limit is two minutes."""

_LOOKED_AT: Final = frozenset({401, 429, 503})
"""Every other status is the answer, whatever it says."""


class Tokens(Protocol):
    """Where tokens come from."""

    def lease_now(self, application: str, resource: str) -> Lease | None: ...

    async def lease(self, application: str, resource: str) -> Lease: ...

    def invalidate(self, lease: Lease) -> bool: ...


class Turn(Protocol):
    """A request's turn with Dataverse: it lasts until `leave`."""

    def leave(self) -> None: ...


class Shares(Protocol):
    """Whose turn it is, for each application and environment."""

    def choose(self, applications: Sequence[str], environment: str) -> str: ...

    def enter_now(self, application: str, environment: str, share: Share) -> Turn | None: ...

    async def enter(
        self, application: str, environment: str, share: Share, *, timeout_s: float
    ) -> Turn: ...

    def exceeded(
        self,
        application: str,
        environment: str,
        limit: Exceeded | None,
        retry_after: timedelta | None,
    ) -> None: ...

    def paused_s(self, application: str, environment: str) -> float: ...


class Sent(msgspec.Struct, frozen=True):
    """An answer, its head here. Whoever takes it ends the turn."""

    answer: UpstreamAnswer
    turn: Turn


class _Course(msgspec.Struct):
    """How one request fares over its attempts."""

    request: Prepared
    harmless: bool
    """Sent twice it does no more than once."""
    attempts: int = 0
    token_renewed: bool = False
    fresh: bool = False

    def tries(self, errand: Errand) -> Tries:
        return Tries(
            method=self.request.method,
            repeatable=self.harmless,
            body_is_at_hand=not self.request.streams,
            attempts=self.attempts,
            token_renewed=self.token_renewed,
            wanted=errand.wishes.retries,
        )


class Sender:
    def __init__(self, tokens: Tokens, shares: Shares, observer: Observer) -> None:
        self._tokens = tokens
        self._shares = shares
        self._observer = observer
        self._newest: dict[tuple[str, str], Headers] = {}

    def limits_left(self, application: str, environment: str) -> LimitsLeft:
        """What Dataverse said last of its limits. To be shown, and not to be acted upon."""
        return limits_left(self._newest.get((application, environment), ()))

    def choose(self, applications: Sequence[str], environment: str) -> str:
        """The member of a pool that takes the next request."""
        return self._shares.choose(applications, environment)

    async def send(self, errand: Errand, request: Prepared, *, harmless: bool) -> Sent:
        """Raises `TokenUnavailable`, `UpstreamFailed`, `Overloaded` and other `Unavailable`."""
        course = _Course(request, harmless)
        while True:
            lease, turn = await self._ready(errand)
            course.attempts += 1
            try:
                answer = await self._attempt(errand, course, lease)
                if answer.status not in _LOOKED_AT:
                    return Sent(answer, turn)
                verdict = await self._after_answer(errand, course, answer, lease)
            except ExchangeFailed as failure:
                turn.leave()
                again = after_failure(
                    course.tries(errand), failure, remaining_s=_remaining_s(errand)
                )
                if isinstance(again, Stop):
                    if course.attempts > 1:
                        failure.extra["attempts"] = course.attempts
                    raise
                verdict = again
            except BaseException:
                turn.leave()
                raise
            if not isinstance(verdict, Again):
                return Sent(verdict, turn)
            turn.leave()
            course.fresh = verdict.fresh_connection
            await _pause(errand, verdict.pause_s)

    async def _ready(self, errand: Errand) -> tuple[Lease, Turn]:
        """The token first: who waits for Entra takes no turn of Dataverse's meanwhile.

        A token may end, or be refused to somebody else, while its turn is waited for.
        """
        tokens, shares = self._tokens, self._shares
        application, resource = errand.application, errand.place.resource
        while True:
            lease = tokens.lease_now(application, resource)
            if lease is None:
                lease = await tokens.lease(application, resource)
            turn = shares.enter_now(application, errand.place.name, errand.judged.share)
            if turn is None:
                turn = await self._in_line(errand)
                lease = tokens.lease_now(application, resource)
                if lease is None:
                    turn.leave()
                    continue
            errand.exchange.token_fingerprint = lease.fingerprint
            return lease, turn

    async def _in_line(self, errand: Errand) -> Turn:
        began = time.perf_counter()
        try:
            return await self._shares.enter(
                errand.application,
                errand.place.name,
                errand.judged.share,
                timeout_s=max(0.0, _remaining_s(errand)),
            )
        finally:
            errand.exchange.waited_s += time.perf_counter() - began

    async def _attempt(self, errand: Errand, course: _Course, lease: Lease) -> UpstreamAnswer:
        request, wishes, exchange = course.request, errand.wishes, errand.exchange
        body: bytes | AsyncIterator[bytes] | None = request.body
        length: int | None = None
        if request.streams:
            body, length = errand.stream, errand.stream_bytes
        timeout_s = HEAD_TIMEOUT_S
        if wishes.timeout_s is not None:
            timeout_s = wishes.attempt_s(exchange.elapsed_s(), HEAD_TIMEOUT_S)
            if timeout_s <= 0.0:
                raise UpstreamFailed(
                    "upstream-timeout",
                    "the time that Broker-Timeout gave was over before an answer",
                )
        outgoing = UpstreamRequest(
            request.method,
            request.target,
            (
                *request.headers,
                (b"Accept-Encoding", errand.accept_encoding),
                *wishes.tracing,
                (b"Authorization", lease.authorization()),
            ),
            body,
            length,
        )
        status, began = 0, time.perf_counter()
        try:
            answer = await errand.upstream.send(outgoing, timeout_s=timeout_s, fresh=course.fresh)
            status = answer.status
        finally:
            took_s = time.perf_counter() - began
            exchange.upstream_ms = round(took_s * 1000, 3)
            self._observer.upstream(status, took_s)
        self._newest[errand.application, errand.place.name] = answer.headers
        exchange.upstream_status = status
        exchange.attempts = course.attempts
        return answer

    # ------------------------------------------------------------ what came back

    async def _after_answer(
        self, errand: Errand, course: _Course, answer: UpstreamAnswer, lease: Lease
    ) -> Again | UpstreamAnswer:
        """Another try, or the answer that the caller gets. Raises `UpstreamFailed`."""
        if answer.status == 401:
            await answer.aclose()
            renewable = self._tokens.invalidate(lease)
            if renewable and not course.token_renewed and not course.request.streams:
                course.token_renewed = True
                return Again(pause_s=0.0, because="token", renew_token=True)
            raise refused_token(errand.place.name, lease, answer.headers)
        kept = await keep(answer)
        now = datetime.now(UTC)
        limit: Exceeded | None = None
        retry_after = retry_after_of(kept.headers, now=now)
        if kept.status == 429:
            throttled = throttling_of(429, kept.headers, kept.beginning(), now=now)
            if throttled is not None and throttled.limit is not None:
                limit = Exceeded(throttled.limit.value)
            self._shares.exceeded(errand.application, errand.place.name, limit, retry_after)
        verdict = after_answer(
            course.tries(errand),
            kept.status,
            retry_after=retry_after,
            remaining_s=_remaining_s(errand),
        )
        verdict = self._elsewhere(errand, course, verdict, throttled=kept.status == 429)
        if isinstance(verdict, Stop):
            return kept
        await kept.aclose()
        if limit is not None:
            # The lane pauses for all; whoever waits in line comes in his turn.
            return Again(pause_s=0.0, because="throttled")
        return verdict

    def _elsewhere(
        self, errand: Errand, course: _Course, verdict: Again | Stop, *, throttled: bool
    ) -> Again | Stop:
        """Another member of the pool may do it at once, whatever this one was told."""
        if (
            not throttled
            or len(errand.applications) == 1
            or course.request.streams
            or not errand.wishes.retries
            or course.attempts >= ATTEMPTS_MAX
        ):
            return verdict
        environment = errand.place.name
        other = self._shares.choose(errand.applications, environment)
        if other == errand.application or self._shares.paused_s(other, environment) > 0.0:
            return verdict
        errand.application = errand.exchange.application = other
        return Again(pause_s=0.0, because="throttled")


async def _pause(errand: Errand, pause_s: float) -> None:
    if pause_s > 0.0:
        errand.exchange.waited_s += pause_s
        await asyncio.sleep(pause_s)


def _remaining_s(errand: Errand) -> float:
    return errand.wishes.remaining_s(errand.exchange.elapsed_s())
