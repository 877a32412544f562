"""POST /oauth2/v2.0/token and POST /{tenant}/oauth2/v2.0/token: tokens as Entra gives them.

RFC 6749 client credentials, with a secret in the body or in Basic, or with an assertion
(RFC 7523), and RFC 8693 token exchange. The tenant is there for clients that must name one; it
decides nothing.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

import msgspec

from app.errors import BrokerError, Unauthenticated, Unreadable
from app.web.asgi import head_of, read_body, send_answer
from app.web.forms import BODY_WITHIN_S, FORM_BYTES_MAX, read_fields, read_form
from app.web.issuing import Credential, json_token_answer, resource_of, seconds_left
from app.web.oauth_errors import oauth_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.web.asgi import Answer, Receive, RequestHead, Scope, Send
    from app.web.dispatch import Refusals
    from app.web.issuing import Issued, Issuer

CLIENT_CREDENTIALS: Final = "client_credentials"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
_FIELDS: Final = frozenset(
    {
        "grant_type",
        "scope",
        "resource",
        "audience",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "requested_token_type",
    }
)
_SUBJECT_TYPES: Final = frozenset(
    {
        ACCESS_TOKEN_TYPE,
        "urn:ietf:params:oauth:token-type:jwt",
        "urn:ietf:params:oauth:token-type:id_token",
    }
)
_ISSUED_TYPES: Final = frozenset({ACCESS_TOKEN_TYPE, "urn:ietf:params:oauth:token-type:jwt"})


class OAuth:
    """The ASGI app of both versions of Entra's endpoint."""

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
        try:
            answer = await self._answer(head, receive)
        except BrokerError as error:
            answer = oauth_error(error, head, shape="entra", now=self._now())
        await send_answer(send, answer)

    async def _answer(self, head: RequestHead, receive: Receive) -> Answer:
        try:
            if head.method != "POST":
                raise Unreadable(
                    "method-not-allowed",
                    "tokens are asked for with POST",
                    extra={"allow": ["POST"]},
                )
            if head.query and not _FIELDS.isdisjoint(read_form(head.query)):
                # A secret in the query ends up in somebody's log, and RFC 6749, 2.3.1 forbids
                # it. Other names may stand there: MSAL for Node.js sends its telemetry so.
                raise Unreadable("bad-query", "the token request's fields belong into the body")
            body = await read_body(head, receive, limit=FORM_BYTES_MAX, within_s=BODY_WITHIN_S)
            fields = read_fields(head, body)
            credential = read_credential(head, fields)
            resource = resource_of(_with_audience(fields))
        except BrokerError as error:
            await self._refusals.refuse(head, error)
            raise
        exchange = fields["grant_type"] == TOKEN_EXCHANGE
        try:
            issued = await self._issuer.issue(
                head, environment=None, resource=resource, credential=credential
            )
        except Unauthenticated as error:
            if not exchange:
                raise
            # RFC 8693, 2.2.2: a subject token that is not accepted is an invalid_request.
            raise Unreadable("bad-subject-token", error.detail) from error
        body = _document(
            issued,
            now=self._now(),
            exchange=exchange,
            first_version=not head.path.endswith(b"/v2.0/token"),
        )
        return json_token_answer(body, request_id=head.request_id)


def read_credential(head: RequestHead, fields: dict[str, str]) -> Credential | None:
    """The one credential that a token request presents; None where it stands in the headers.

    Raises `Unreadable` for two of them (RFC 6749, 2.3), and for a grant type that is not served.
    """
    grant_type = fields.get("grant_type")
    if grant_type is None:
        raise Unreadable("bad-body", "grant_type is missing")
    if grant_type not in {CLIENT_CREDENTIALS, TOKEN_EXCHANGE}:
        raise Unreadable(
            "unsupported-grant-type",
            "grant_type must be client_credentials or a token exchange (RFC 8693)",
        )
    name = fields.get("client_id")
    authorization = head.single(b"authorization")
    found = [
        _basic(authorization, name),
        _secret(fields, name),
        _assertion(fields, name),
        _subject_token(fields, name) if grant_type == TOKEN_EXCHANGE else None,
    ]
    presented = [credential for credential in found if credential is not None]
    in_headers = (authorization is not None and found[0] is None) or head.single(
        b"x-api-key"
    ) is not None
    if len(presented) + in_headers > 1:
        raise Unreadable("two-credentials", "a caller proves itself in one way, not in two")
    return presented[0] if presented else None


def _basic(authorization: bytes | None, name: str | None) -> Credential | None:
    if authorization is None or authorization[:6].lower() != b"basic ":
        return None
    try:
        pair = base64.b64decode(authorization[6:].strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as broken:
        raise Unreadable("bad-header", "Authorization: Basic is not base64") from broken
    user, colon, secret = pair.partition(":")
    # RFC 6749, 2.3.1: both are form-encoded before they are joined.
    user, secret = unquote_plus(user), unquote_plus(secret)
    if not colon or (name is not None and name != user):
        raise Unreadable("bad-header", "Authorization: Basic and client_id name different callers")
    return Credential(kind="client_secret", name=user, secret=secret)


def _secret(fields: dict[str, str], name: str | None) -> Credential | None:
    secret = fields.get("client_secret")
    return Credential(kind="client_secret", name=name, secret=secret) if secret else None


def _assertion(fields: dict[str, str], name: str | None) -> Credential | None:
    assertion = fields.get("client_assertion")
    if assertion is None:
        return None
    if fields.get("client_assertion_type") != JWT_BEARER:
        raise Unreadable("bad-body", f"client_assertion_type must be {JWT_BEARER}")
    return Credential(kind="client_assertion", name=name, secret=assertion)


def _subject_token(fields: dict[str, str], name: str | None) -> Credential:
    token = fields.get("subject_token")
    if token is None:
        raise Unreadable("bad-body", "subject_token is missing")
    if fields.get("subject_token_type") not in _SUBJECT_TYPES:
        raise Unreadable("bad-body", "subject_token_type must be that of a JWT")
    if "actor_token" in fields:
        raise Unreadable("bad-body", "actor_token is not served: nobody acts for another here")
    if fields.get("requested_token_type", ACCESS_TOKEN_TYPE) not in _ISSUED_TYPES:
        raise Unreadable("bad-body", "requested_token_type must be that of an access token")
    return Credential(kind="subject_token", name=name, secret=token)


def _with_audience(fields: dict[str, str]) -> dict[str, str]:
    """RFC 8693's `audience` read as the `resource`, where only that is given."""
    if fields["grant_type"] == TOKEN_EXCHANGE and "audience" in fields:
        if "resource" in fields:
            raise Unreadable("bad-scope", "audience and resource: name the target once")
        return {**fields, "resource": fields["audience"]}
    return fields


def _document(issued: Issued, *, now: datetime, exchange: bool, first_version: bool) -> bytes:
    """Numbers in version 2 and strings in version 1, as Entra has them.

    No `ext_expires_in`: it invites clients to use a token past its end.
    """
    left = seconds_left(issued, now)
    document: dict[str, Any] = {"token_type": "Bearer", "expires_in": left}
    if first_version:
        document = {
            "token_type": "Bearer",
            "expires_in": str(left),
            "expires_on": str(int(issued.expires_on.timestamp())),
            "not_before": str(int((issued.issued_at or now).timestamp())),
            "resource": issued.resource,
        }
    if exchange:
        document["issued_token_type"] = ACCESS_TOKEN_TYPE
    document["access_token"] = issued.access_token
    return msgspec.json.encode(document)
