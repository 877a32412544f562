"""What every token endpoint asks of the broker, and how its answer is framed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

from app.errors import Unreadable
from app.web.asgi import Answer
from app.web.problems import broker_headers

if TYPE_CHECKING:
    from datetime import datetime

    from app.web.asgi import RequestHead

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
    client_id: str | None = None
    """The application's, where there is one."""
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
        sent: either may name nothing that exists. Without both, the environment is the
        caller's default. Without `credential` the caller proves itself by its headers.
        Raises `BrokerError`, its refusal already on the record.
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
    if named.endswith(_DEFAULT_SUFFIX):
        raise Unreadable("bad-scope", "scope has /.default twice")
    # Entra's rule: `https://host//.default` keeps the slash that the resource ends with.
    if resource is not None and resource.rstrip("/") != named.rstrip("/"):
        raise Unreadable("bad-scope", "scope and resource name different resources")
    return named


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
