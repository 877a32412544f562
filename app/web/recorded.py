"""No answer of the management addresses leaves before its record is durable.

A pure ASGI wrapper: admit, run the inner app into memory, conclude the record, then send. Its
answers are small and whole, so there is no stream to hold back.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from app.errors import BrokerError
from app.telemetry.logs import where_raised
from app.web.asgi import Answer, CallerGone, head_of, read_body, send_answer
from app.web.problems import broker_headers, decision_of, internal_error, problem

if TYPE_CHECKING:
    from app.identity.caller import Caller
    from app.web.asgi import App, Headers, Message, Receive, RequestHead, Scope, Send

log = structlog.get_logger()

CALLER_KEY: Final = "broker.caller"
REASON_KEY: Final = "broker.reason"
"""Where an error handler leaves the code that the record names."""

BODY_BYTES_MAX: Final = 2 * 1024 * 1024
"""The largest request body: one to explain, of a batch perhaps."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Beyond the largest page of records; more than this is a mistake, not an answer."""
BODY_WITHIN_S: Final = 30.0


class Admitted(Protocol):
    """One request of a known caller, to be concluded exactly once."""

    @property
    def caller(self) -> Caller: ...

    async def conclude(self, *, status: int | None, reason: str | None, bytes_out: int) -> None:
        """Returns when the record is durable. No status: no answer was given.

        Raises `Unavailable` (`record-unavailable`) where it cannot be kept.
        """
        ...


class Admission(Protocol):
    """What the path does for a management request before its work begins."""

    async def admit(self, head: RequestHead) -> Admitted:
        """Raises `BrokerError`, its refusal already on the record, where the caller is unknown,
        over its limits, or nothing can be recorded.
        """
        ...


class Recorded:
    """The wrapper around the inner app."""

    def __init__(self, app: App, *, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = head_of(scope)
        try:
            admitted = await self._admission.admit(head)
        except BrokerError as error:
            await send_answer(send, problem(error, request_id=head.request_id))
            return
        scope[CALLER_KEY] = admitted.caller
        try:
            answer, reason = await self._answer(head, scope, receive)
        except CallerGone:
            await admitted.conclude(status=None, reason="caller-gone", bytes_out=0)
            raise
        except asyncio.CancelledError:
            await admitted.conclude(status=None, reason="stopped", bytes_out=0)
            raise
        try:
            await admitted.conclude(status=answer.status, reason=reason, bytes_out=len(answer.body))
        except BrokerError as error:
            answer = problem(error, request_id=head.request_id)
        await send_answer(send, answer)

    async def _answer(
        self, head: RequestHead, scope: Scope, receive: Receive
    ) -> tuple[Answer, str | None]:
        """The inner app's whole answer and the code of its error, whatever goes wrong in there."""
        try:
            body = await read_body(head, receive, limit=BODY_BYTES_MAX, within_s=BODY_WITHIN_S)
            kept = _Kept()
            await self._app(scope, _replay(body), kept.send)
            return kept.answer(head.request_id), scope.get(REASON_KEY)
        except BrokerError as error:
            return problem(error, request_id=head.request_id), error.code
        except CallerGone:
            raise
        except Exception as failure:  # noqa: BLE001 - it must be on the record like any other
            log.error(  # noqa: TRY400 - a traceback quotes messages, which may quote values
                "request.failed",
                request_id=head.request_id,
                error=type(failure).__qualname__,
                where=where_raised(failure),
                answer_started=False,
            )
            return internal_error(head.request_id), "internal-error"


class AnswerTooLarge(Exception):
    """The inner app went on and on."""


class _Kept:
    """Takes the messages of an answer instead of the server."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: Headers = ()
        self._pieces: list[bytes] = []
        self._size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = tuple(message["headers"])
            return
        piece = message.get("body", b"")
        self._size += len(piece)
        if self._size > ANSWER_BYTES_MAX:
            raise AnswerTooLarge
        self._pieces.append(piece)

    def answer(self, request_id: str) -> Answer:
        present = {name.lower() for name, _ in self._headers}
        decision = b"allowed" if self._status < 400 else decision_of(self._status)
        added = [*broker_headers(request_id, decision), (b"cache-control", b"no-store")]
        return Answer(
            status=self._status,
            headers=(*self._headers, *(pair for pair in added if pair[0] not in present)),
            body=b"".join(self._pieces),
        )


def _replay(body: bytes) -> Receive:
    told = False

    async def receive() -> Message:
        nonlocal told
        if told:
            return {"type": "http.disconnect"}
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
