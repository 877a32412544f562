"""GET /msi/token: App Service's managed-identity protocol, version 2019-08-01.

With IDENTITY_ENDPOINT at this address and IDENTITY_HEADER holding an API key, the
`ManagedIdentityCredential` of every Azure SDK works unchanged. Answers are in the forms that the
Python, JavaScript and .NET libraries all read: `expires_in` before `expires_on`, numbers as
strings. The IMDS form is not served: it carries no credential.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from app.errors import BrokerError, Unauthenticated, Unreadable
from app.web.asgi import Answer, head_of, send_answer
from app.web.forms import read_form
from app.web.issuing import Credential, json_token_answer, seconds_left
from app.web.oauth_errors import error_name
from app.web.problems import PROBLEMS, error_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.web.asgi import Receive, RequestHead, Scope, Send
    from app.web.dispatch import Refusals
    from app.web.issuing import Issuer

API_VERSION: Final = "2019-08-01"
NO_CLIENT: Final = "00000000-0000-0000-0000-000000000000"
"""The `client_id` of a broker token: clients want one, and it belongs to no app registration."""

# Which identity of the host to use. A caller has one, so these choose nothing.
_CHOICES: Final = frozenset({"client_id", "mi_res_id", "object_id", "principal_id", "msi_res_id"})


class ManagedIdentity:
    """The ASGI app."""

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

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        head = head_of(scope)
        try:
            answer = await self._answer(head)
        except BrokerError as error:
            answer = _error(error, head)
        await send_answer(send, answer)

    async def _answer(self, head: RequestHead) -> Answer:
        try:
            resource, credential = _read(head)
        except BrokerError as error:
            await self._refusals.refuse(head, error)
            raise
        issued = await self._issuer.issue(
            head, environment=None, resource=resource, credential=credential
        )
        now = self._now()
        return json_token_answer(
            msgspec.json.encode(
                {
                    "access_token": issued.access_token,
                    "token_type": "Bearer",
                    "expires_in": str(seconds_left(issued, now)),
                    "not_before": str(int((issued.issued_at or now).timestamp())),
                    "expires_on": str(int(issued.expires_on.timestamp())),
                    "resource": resource,
                    "client_id": issued.client_id or NO_CLIENT,
                }
            ),
            request_id=head.request_id,
        )


def _read(head: RequestHead) -> tuple[str, Credential]:
    """The resource that is asked for and the key that asks. Raises `BrokerError`."""
    if head.method != "GET":
        raise Unreadable("method-not-allowed", "only GET here", extra={"allow": ["GET"]})
    if head.values(b"x-forwarded-for"):
        # As Azure does it: a server that is tricked into fetching this address through a
        # proxy of its own must not get a token (server-side request forgery).
        raise Unreadable("bad-header", "X-Forwarded-For: a token is not given through a proxy")
    fields = read_form(head.query)
    if fields.pop("api-version", None) != API_VERSION:
        raise Unreadable("bad-query", f"api-version must be {API_VERSION}")
    resource = fields.pop("resource", None)
    if resource is None:
        raise Unreadable("bad-query", "resource is missing")
    if not fields.keys() <= _CHOICES:
        raise Unreadable("bad-query", "only api-version and resource are read here")
    key = head.single(b"x-identity-header")
    if head.single(b"authorization") is not None or head.single(b"x-api-key") is not None:
        raise Unreadable("two-credentials", "X-IDENTITY-HEADER alone proves the caller here")
    if not key:
        raise Unauthenticated("unauthenticated", "X-IDENTITY-HEADER must hold the caller's key")
    # latin-1 is how HTTP's bytes become text without loss; a key that is genuine is ASCII.
    secret = key.decode("latin-1")
    return resource, Credential(kind="identity_header", name=None, secret=secret)


def _error(error: BrokerError, head: RequestHead) -> Answer:
    """App Service's own form, whose `message` the SDKs show, and OAuth's beside it."""
    known = PROBLEMS.get(error.code, PROBLEMS["internal-error"])
    detail = error.detail if error.code in PROBLEMS else known.title
    body = msgspec.json.encode(
        {
            "statusCode": known.status,
            "message": detail,
            "correlationId": head.request_id,
            "error": error_name(error.code),
            "error_description": detail,
        }
    )
    return Answer(
        status=known.status,
        headers=(
            *error_headers(error, status=known.status, request_id=head.request_id),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
        ),
        body=body,
    )
