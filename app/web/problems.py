"""Which status each error code has, and how it is told (RFC 9457).

The one place where the core's errors meet HTTP. `docs/errors.md` lists the codes for callers;
a test compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import structlog

from app.web.asgi import Answer

if TYPE_CHECKING:
    from app.errors import BrokerError
    from app.web.asgi import Headers

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "/problems/"
"""A problem's `type` is this and its code: a reference that resolves at the broker itself, and
stays the same wherever it is installed (RFC 9457, 3.1.1, wants the full path in such a one)."""


class Problem(NamedTuple):
    status: int
    title: str


PROBLEMS: Final[dict[str, Problem]] = {
    # ------------------------------------------------ what cannot be read
    "bad-path": Problem(400, "The path cannot be read"),
    "bad-query": Problem(400, "The query cannot be read"),
    "bad-expression": Problem(400, "An expression in the query cannot be read"),
    "bad-header": Problem(400, "A header cannot be read"),
    "bad-body": Problem(400, "The body cannot be read"),
    "bad-json": Problem(400, "The body is not JSON as it must be"),
    "bad-fetchxml": Problem(400, "The FetchXML cannot be read"),
    "bad-batch": Problem(400, "The batch cannot be read"),
    "bad-link-target": Problem(400, "A link points where it must not"),
    "duplicate-header": Problem(400, "A header that must be single is given twice"),
    "two-credentials": Problem(400, "Two credentials were sent"),
    "unknown-option": Problem(400, "A query option is not known"),
    "unsealed-continuation": Problem(400, "This continuation was not handed out by the broker"),
    "cursor-invalid": Problem(400, "This cursor belongs to another walk"),
    "limit-exceeded": Problem(400, "The request is larger than a limit"),
    "bad-scope": Problem(400, "The scope or resource cannot be read"),
    "bad-subject-token": Problem(400, "The token to be exchanged is not accepted"),
    "unsupported-grant-type": Problem(400, "This grant type is not served"),
    "no-default-environment": Problem(400, "The caller has no default environment"),
    "no-such-address": Problem(404, "There is nothing at this address"),
    "no-such-version": Problem(404, "This version of the Web API is not served"),
    "method-not-allowed": Problem(405, "The method is not allowed here"),
    "body-too-slow": Problem(408, "The body took too long to arrive"),
    "length-required": Problem(411, "The body's length must be declared"),
    "body-too-large": Problem(413, "The body is too large"),
    "target-too-long": Problem(414, "The address is too long"),
    "unsupported-media-type": Problem(415, "The body's media type is not supported"),
    # ------------------------------------------------ what is refused
    "unauthenticated": Problem(401, "The caller is not known"),
    "not-granted": Problem(403, "No grant covers this"),
    "token-not-granted": Problem(403, "The raw token is not granted"),
    "impersonation-refused": Problem(403, "Impersonation is not granted"),
    "no-such-row": Problem(404, "There is no such row for this caller"),
    "no-such-record": Problem(404, "There is no such audit record"),
    "no-such-application": Problem(404, "There is no such application"),
    "etag-mismatch": Problem(412, "The row is not as the caller knew it"),
    "rate-limited": Problem(429, "The caller's request rate is used up"),
    "too-many-concurrent": Problem(429, "The caller has too many requests in flight"),
    # ------------------------------------------------ what is missing or broken
    "internal-error": Problem(500, "The broker failed"),
    "upstream-unreachable": Problem(502, "The upstream service could not be reached"),
    "upstream-broke": Problem(502, "The upstream service broke off"),
    "upstream-malformed": Problem(502, "The upstream service answered what cannot be passed on"),
    "upstream-refused-token": Problem(502, "Dataverse refused the broker's token"),
    "key-vault-unavailable": Problem(503, "The key vault cannot be asked"),
    "issuer-unavailable": Problem(503, "The issuer of the caller's token cannot be asked"),
    "upstream-busy": Problem(503, "Too many requests are on their way to Dataverse"),
    "audit-unreadable": Problem(503, "The audit cannot be read"),
    "metadata-refused": Problem(502, "The environment refused its metadata"),
    "record-unavailable": Problem(503, "The audit record cannot be kept"),
    "schema-unavailable": Problem(503, "The environment's schema is not there yet"),
    "token-unavailable": Problem(503, "No Dataverse token can be had"),
    "overloaded": Problem(503, "The broker has too much to do"),
    "shutting-down": Problem(503, "The broker is shutting down"),
    "upstream-timeout": Problem(504, "The upstream service did not answer in time"),
}

_CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="dataverse-token-broker"')
"""The same for every 401: a stranger learns nothing from it."""

_RATE_LIMIT: Final = "rate_limit"
"""The member of a 429's `extra` that also becomes its RateLimit headers: limit, remaining, reset_s
(draft-ietf-httpapi-ratelimit-headers-07, 5; later drafts have one header that few clients read).
"""

_ALLOW: Final = "allow"
"""The member of a 405's `extra` that also becomes its Allow header: a list of methods."""


def status_of(error: BrokerError) -> int:
    """500 for a code that nobody listed, since that is the broker's own mistake."""
    problem = PROBLEMS.get(error.code)
    return problem.status if problem else 500


def decision_of(status: int) -> bytes:
    """Broker-Decision for an answer that the broker gives itself instead of what was asked."""
    return b"refused" if status < 500 else b"error"


def broker_headers(request_id: str, decision: bytes) -> Headers:
    """The two headers that stand on every answer."""
    return ((b"broker-request-id", request_id.encode("ascii")), (b"broker-decision", decision))


def error_headers(error: BrokerError, *, status: int, request_id: str) -> Headers:
    """The headers that an error brings, whatever form its body has. Framing is not in them."""
    headers = [
        *broker_headers(request_id, decision_of(status)),
        (b"cache-control", b"no-store"),
    ]
    if status == 401:
        headers.append(_CHALLENGE)
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(error.retry_after_s).encode("ascii")))
    rate = error.extra.get(_RATE_LIMIT)
    if rate:
        headers += [
            (b"ratelimit-limit", str(rate["limit"]).encode("ascii")),
            (b"ratelimit-remaining", str(rate["remaining"]).encode("ascii")),
            (b"ratelimit-reset", str(rate["reset_s"]).encode("ascii")),
        ]
    allowed = error.extra.get(_ALLOW)
    if allowed:
        headers.append((b"allow", ", ".join(allowed).encode("ascii")))
    return tuple(headers)


def problem(error: BrokerError, *, request_id: str) -> Answer:
    """The error as a problem document. An unlisted code is told as `internal-error`."""
    known = PROBLEMS.get(error.code)
    if known is None:
        log.error("error.unlisted", code=error.code, request_id=request_id)
        return internal_error(request_id)
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + error.code,
        "title": known.title,
        "status": known.status,
        "detail": error.detail,
        "request_id": request_id,
    }
    for name, value in error.extra.items():
        document.setdefault(name, value)
    return _answer(
        known.status,
        error_headers(error, status=known.status, request_id=request_id),
        document,
    )


def internal_error(request_id: str) -> Answer:
    """The answer to what nobody foresaw: it tells nothing but the id to look for in the logs."""
    known = PROBLEMS["internal-error"]
    document = {
        "type": TYPE_PREFIX + "internal-error",
        "title": known.title,
        "status": known.status,
        "detail": "the operators find the cause in the logs under this request_id",
        "request_id": request_id,
    }
    headers = (*broker_headers(request_id, b"error"), (b"cache-control", b"no-store"))
    return _answer(known.status, headers, document)


def _answer(status: int, headers: Headers, document: dict[str, Any]) -> Answer:
    body = msgspec.json.encode(document)
    return Answer(
        status=status,
        headers=(
            *headers,
            (b"content-type", MEDIA_TYPE.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
        ),
        body=body,
    )
