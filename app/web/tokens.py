"""POST /environments/{environment}/token: a token for a caller that may hold one.

Plain ASGI: a FastAPI route would cost three times what everything else here does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from app.errors import BrokerError, Unreadable
from app.web.asgi import Answer, head_of, read_body, send_answer
from app.web.dispatch import ROUTE_KEY, Route
from app.web.forms import FORM_BYTES_MAX, read_fields
from app.web.oauth_errors import oauth_error
from app.web.problems import broker_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.web.asgi import Receive, RequestHead, Scope, Send
    from app.web.dispatch import Refusals

BODY_WITHIN_S: Final = 10.0

_FIELDS: Final = frozenset({"resource", "scope"})
_DEFAULT_SUFFIX: Final = "/.default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a token request's body or own header presents instead of Authorization.

    Unverified: `name` is who the caller says it is.
    """

    kind: Literal["client_secret", "client_assertion", "subject_token", "identity_header"]
    name: str | None
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A token on its way to the caller, its record durable."""

    access_token: str = field(repr=False)
    expires_on: datetime
    resource: str
    application: str | None
    """None for a broker token: it stands for the caller, not for an app registration."""
    issued_at: datetime | None = None
    """Where it is known; the managed-identity answer tells it as `not_before`."""


class Issuer(Protocol):
    async def issue(
        self,
        head: RequestHead,
        *,
        environment: str | None,
        resource: str | None,
        credential: Credential | None = None,
    ) -> Issued:
        """Authenticate, decide, record, and give out a token.

        `environment` comes from the address and `resource` from the request, as they were
        sent: either may name nothing that exists. Without `credential` the caller proves
        itself by its headers. Raises `BrokerError`, its refusal already on the record.
        """
        ...


def resource_of(fields: dict[str, str]) -> str | None:
    """The one resource that a request names, by `resource` or by `scope=<resource>/.default`.

    Raises `Unreadable` for several scopes and for two resources that differ.
    """
    resource = fields.get("resource")
    scope = fields.get("scope")
    if scope is None:
        return resource
    scopes = scope.split()
    if len(scopes) != 1 or not scopes[0].endswith(_DEFAULT_SUFFIX):
        raise Unreadable("bad-scope", "scope must be one resource followed by /.default")
    named = scopes[0][: -len(_DEFAULT_SUFFIX)]
    # Entra's rule: `https://host//.default` keeps the slash that the resource ends with.
    if resource is not None and resource.rstrip("/") != named.rstrip("/"):
        raise Unreadable("bad-scope", "scope and resource name different resources")
    return named


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


def json_token_answer(body: bytes, *, request_id: str) -> Answer:
    return Answer(
        status=200,
        headers=(
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
            # RFC 6749, 5.1: both, for caches old and new.
            (b"cache-control", b"no-store"),
            (b"pragma", b"no-cache"),
            *broker_headers(request_id, b"allowed"),
        ),
        body=body,
    )


def seconds_left(issued: Issued, now: datetime) -> int:
    return max(0, int((issued.expires_on - now).total_seconds()))
