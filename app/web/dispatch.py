"""Which app answers an address: decided on the raw path, in front of FastAPI.

    /environments/{environment}/api/data/…    the proxy
    /api/data/…                               the proxy, in the caller's default environment
    /environments/{environment}/token         the token endpoint
    /oauth2/…, /{tenant}/…, /msi/token, …     the token endpoints of other dialects, by table
    /livez, /readyz, /metrics                 health
    everything else                           management (FastAPI)

Matching is on bytes as they were sent: an address written in another encoding is another
address, and ends at management's 404.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from app.errors import BrokerError, Unavailable, Unreadable
from app.telemetry.logs import where_raised
from app.web.asgi import CallerGone, head_of, send_answer
from app.web.problems import internal_error, problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.web.asgi import App, Message, Receive, RequestHead, Scope, Send

log = structlog.get_logger()

TARGET_BYTES_MAX: Final = 32 * 1024
"""Path, question mark and query together."""

IN_FLIGHT_MOST: Final = 2000
"""Requests that are being answered at once. Most of them wait for Dataverse, in memory; with more,
all of them would wait longer, and each new one is told so at once instead."""

RETRY_AFTER_S: Final = 1

ROUTE_KEY: Final = "broker.route"

_ENVIRONMENTS: Final = b"/environments/"
_API_DATA: Final = b"/api/data/"
_HEALTH: Final = frozenset({b"/livez", b"/readyz", b"/metrics"})


class Route(NamedTuple):
    """The two parts of a proxied address; an ASGI app finds it in the scope."""

    environment: bytes | None
    """As it was sent, perhaps of no configured environment; None: the caller's default."""
    rest: bytes
    """What follows `/api/data/`, or the endpoint's name."""


class Refusals(Protocol):
    """Puts on the record what `web` itself refuses before any stage has seen it."""

    async def refuse(self, head: RequestHead, error: BrokerError) -> None:
        """Returns when the refusal is durable. Raises `Unavailable` where it cannot be."""
        ...


class InFlight(Protocol):
    """Counts the requests that are being answered."""

    in_flight: int


class Dispatcher:
    """The outermost ASGI app: picks the inner one, and lets nothing unforeseen get out."""

    def __init__(
        self,
        *,
        proxy: App,
        tokens: App,
        health: App,
        management: App,
        refusals: Refusals,
        in_flight: InFlight,
        lifespan: App | None = None,
        dialects: Callable[[bytes], App | None] | None = None,
        in_flight_most: int = IN_FLIGHT_MOST,
    ) -> None:
        self._proxy = proxy
        self._tokens = tokens
        self._management = management
        self._refusals = refusals
        self._in_flight = in_flight
        self._in_flight_most = in_flight_most
        self._lifespan = lifespan or management
        self._dialects = dialects
        self._health = health

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._other(scope, receive, send)
        path: bytes = scope["raw_path"]
        if path in _HEALTH:
            # A probe is no request: counted neither here nor on the record.
            return self._health(scope, receive, send)
        return self._answer(path, scope, receive, send)

    def route(self, path: bytes, scope: Scope) -> App:
        """The app for a raw path; where it is the proxy or the token endpoint, with its route."""
        if path.startswith(_ENVIRONMENTS):
            environment, slash, rest = path[14:].partition(b"/")
            if rest.startswith(b"api/data/"):
                scope[ROUTE_KEY] = Route(environment, rest[9:])
                return self._proxy
            if rest == b"token" and slash:
                scope[ROUTE_KEY] = Route(environment, rest)
                return self._tokens
        elif path.startswith(_API_DATA):
            scope[ROUTE_KEY] = Route(None, path[10:])
            return self._proxy
        app = self._dialects(path) if self._dialects is not None else None
        return app or self._management

    async def _answer(self, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        def watched(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        head = head_of(scope)
        self._in_flight.in_flight += 1
        try:
            if self._in_flight.in_flight > self._in_flight_most:
                await self._refuse(head, _overloaded(), send=watched)
            elif len(path) + len(head.query) + bool(head.query) > TARGET_BYTES_MAX:
                await self._refuse(head, _target_too_long(), send=watched)
            else:
                await self.route(path, scope)(scope, receive, watched)
        except CallerGone:
            return
        except asyncio.CancelledError:
            raise
        except BrokerError as error:
            # An app that lets its errors out: the answer is still a problem, not a 500.
            if started:
                log.warning("answer.cut", request_id=head.request_id, code=error.code)
                return
            await send_answer(send, problem(error, request_id=head.request_id))
        except Exception as failure:  # noqa: BLE001 - the last line: no stack trace to a caller
            log.error(  # noqa: TRY400 - a traceback quotes messages, which may quote values
                "request.failed",
                request_id=head.request_id,
                error=type(failure).__qualname__,
                where=where_raised(failure),
                answer_started=started,
            )
            if started:
                # Returning in mid-answer makes the server close the connection, so that the
                # caller cannot take what it got for the whole.
                return
            await send_answer(send, internal_error(head.request_id))
        finally:
            self._in_flight.in_flight -= 1

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket":
            # There is nothing to talk to. Closing before accepting makes it a 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _refuse(self, head: RequestHead, error: BrokerError, *, send: Send) -> None:
        await self._refusals.refuse(head, error)
        await send_answer(send, problem(error, request_id=head.request_id))


def _overloaded() -> Unavailable:
    return Unavailable(
        "overloaded",
        "more requests are under way than can be carried: try again later, or send fewer at once",
        retry_after_s=RETRY_AFTER_S,
    )


def _target_too_long() -> Unreadable:
    return Unreadable(
        "target-too-long", f"the path and the query are longer than {TARGET_BYTES_MAX} bytes"
    )
