"""POST /environments/{environment}/token: a token for a caller that may hold one.

Plain ASGI: a FastAPI route would cost three times what everything else here does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from app.errors import BrokerError, Unreadable
from app.web.asgi import head_of, read_body, send_answer
from app.web.dispatch import ROUTE_KEY, Route
from app.web.forms import BODY_WITHIN_S, FORM_BYTES_MAX, read_fields
from app.web.issuing import json_token_answer, resource_of, seconds_left
from app.web.oauth_errors import oauth_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.web.asgi import Answer, Receive, RequestHead, Scope, Send
    from app.web.dispatch import Refusals
    from app.web.issuing import Issued, Issuer

_FIELDS: Final = frozenset({"resource", "scope"})


class Tokens:
    """The ASGI app; the dispatcher leaves the environment in the scope."""

    def __init__(
        self,
        issuer: Issuer,
        *,
        refusals: Refusals,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._issuer = issuer
        self._refusals = refusals
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = head_of(scope)
        route: Route = scope[ROUTE_KEY]
        try:
            answer = await self._answer(head, route, receive)
        except BrokerError as error:
            answer = oauth_error(error, head, shape="environment", now=self._now())
        await send_answer(send, answer)

    async def _answer(self, head: RequestHead, route: Route, receive: Receive) -> Answer:
        try:
            environment = _environment(route.environment)
            if head.method != "POST":
                raise Unreadable(
                    "method-not-allowed",
                    "tokens are asked for with POST",
                    extra={"allow": ["POST"]},
                )
            if head.query:
                # A resource or a key in the query would end up in somebody's log.
                raise Unreadable("bad-query", "this address takes no query: use the body")
            body = await read_body(head, receive, limit=FORM_BYTES_MAX, within_s=BODY_WITHIN_S)
            fields = read_fields(head, body)
            if not fields.keys() <= _FIELDS:
                raise Unreadable("bad-body", "the body may hold resource or scope, nothing else")
            resource = resource_of(fields)
        except BrokerError as error:
            await self._refusals.refuse(head, error)
            raise
        issued = await self._issuer.issue(head, environment=environment, resource=resource)
        return token_answer(issued, request_id=head.request_id, now=self._now())


def _environment(raw: bytes | None) -> str:
    try:
        return (raw or b"").decode("ascii")
    except UnicodeDecodeError as broken:
        raise Unreadable("bad-path", "the environment's name is not ASCII") from broken


class _TokenDocument(msgspec.Struct, omit_defaults=True):
    access_token: str
    token_type: str
    expires_in: int
    expires_on: int
    resource: str
    application: str | None = None


def token_answer(issued: Issued, *, request_id: str, now: datetime) -> Answer:
    """The successful answer of the endpoint under an environment."""
    body = msgspec.json.encode(
        _TokenDocument(
            access_token=issued.access_token,
            token_type="Bearer",  # noqa: S106 - RFC 6750's word, no password
            expires_in=seconds_left(issued, now),
            expires_on=int(issued.expires_on.timestamp()),
            resource=issued.resource,
            application=issued.application,
        )
    )
    return json_token_answer(body, request_id=request_id)
