"""Errors as token endpoints tell them (RFC 6749, 5.2; RFC 8707, 2), from the same table of codes.

The endpoint under an environment keeps the statuses of `web.problems`; those in Entra's shape
answer as Entra does, since its clients read the status too.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import structlog

from app.web.asgi import Answer
from app.web.problems import PROBLEMS, error_headers

if TYPE_CHECKING:
    from app.errors import BrokerError
    from app.web.asgi import RequestHead

log = structlog.get_logger()

Shape = Literal["environment", "entra"]

OAUTH_ERRORS: Final[dict[str, str]] = {
    "unauthenticated": "invalid_client",
    "token-not-granted": "unauthorized_client",
    "not-granted": "invalid_target",
    "bad-scope": "invalid_scope",
    "unsupported-grant-type": "unsupported_grant_type",
    "rate-limited": "temporarily_unavailable",
    "too-many-concurrent": "temporarily_unavailable",
    "token-unavailable": "temporarily_unavailable",
    "schema-unavailable": "temporarily_unavailable",
    "key-vault-unavailable": "temporarily_unavailable",
    "issuer-unavailable": "temporarily_unavailable",
    "upstream-busy": "temporarily_unavailable",
    "record-unavailable": "temporarily_unavailable",
    "overloaded": "temporarily_unavailable",
    "shutting-down": "temporarily_unavailable",
}
"""What is not listed is `invalid_request` below 500 and `server_error` from there on."""

_ENTRA_STATUS: Final = {"invalid_client": 401}
"""Everything else that is the caller's own is 400 there."""

_NOT_ALLOWED: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""What may not stand in an error_description: quotes, backslashes, what is not ASCII."""


def error_name(code: str) -> str:
    known = PROBLEMS.get(code)
    return OAUTH_ERRORS.get(
        code, "invalid_request" if known is not None and known.status < 500 else "server_error"
    )


def describe(text: str) -> str:
    """The text in the characters that RFC 6749 allows."""
    plain = text.replace('"', "'").replace("\n", " ").replace("\u2019", "'")
    return _NOT_ALLOWED.sub("?", plain)


def oauth_error(
    error: BrokerError, head: RequestHead, *, shape: Shape, now: datetime | None = None
) -> Answer:
    """The error as a JSON document. Entra's own code, where there is one, begins the description
    and stands in `error_codes`, as its clients expect.
    """
    known = PROBLEMS.get(error.code)
    if known is None:
        log.error("error.unlisted", code=error.code, request_id=head.request_id)
        return _answer(
            error, head, status=500, name="server_error", description="the broker failed", more={}
        )
    name = error_name(error.code)
    status = known.status
    if shape == "entra" and status < 500 and status != 429:
        status = _ENTRA_STATUS.get(name, 400)
    more: dict[str, Any] = {}
    description = error.detail
    aadsts = error.extra.get("aadsts")
    if isinstance(aadsts, str) and aadsts.startswith("AADSTS"):
        description = f"{aadsts}: {description}"
        more["error_codes"] = [int(aadsts.removeprefix("AADSTS"))]
    if shape == "entra":
        moment = now or datetime.now(UTC)
        more["timestamp"] = moment.strftime("%Y-%m-%d %H:%M:%SZ")
        more["trace_id"] = more["correlation_id"] = head.request_id
    answer = _answer(error, head, status=status, name=name, description=description, more=more)
    return _challenged(answer, head) if shape == "entra" else answer


def _challenged(answer: Answer, head: RequestHead) -> Answer:
    """A challenge only for who came with Authorization, and in his scheme (RFC 6749, 5.2).

    Whoever proves himself in the body could not answer it, and openid-client shows it in place
    of the error. Entra does the same.
    """
    authorization = dict(head.headers).get(b"authorization")
    headers = [pair for pair in answer.headers if pair[0] != b"www-authenticate"]
    if answer.status == 401 and authorization is not None:
        scheme = b"Basic" if authorization[:6].lower() == b"basic " else b"Bearer"
        headers.append((b"www-authenticate", scheme + b' realm="dataverse-token-broker"'))
    return replace(answer, headers=tuple(headers))


def _answer(
    error: BrokerError,
    head: RequestHead,
    *,
    status: int,
    name: str,
    description: str,
    more: dict[str, Any],
) -> Answer:
    body = msgspec.json.encode(
        {
            "error": name,
            "error_description": describe(description),
            **more,
            "request_id": head.request_id,
        }
    )
    return Answer(
        status=status,
        headers=(
            *error_headers(error, status=status, request_id=head.request_id),
            (b"pragma", b"no-cache"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
        ),
        body=body,
    )
