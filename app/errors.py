"""What can go wrong, as the core says it; `web.problems` turns each into an answer.

    BrokerError                     a stable code, a sentence for people, perhaps a Retry-After
    ├── Unreadable                  the request cannot be read (400, 404, 405, 411, 413, 414, 415)
    ├── Unauthenticated             nobody we know (401)
    ├── NotGranted                  known, but not allowed (403)
    ├── Limited                     the caller's own limits (429)
    ├── PreconditionFailed          the row is not the one the caller meant (404, 412)
    ├── Unavailable                 something that we need is not there (503)
    │   (TokenUnavailable, RecordUnavailable, SchemaUnavailable live with their stages)
    └── UpstreamFailed              Dataverse could not be reached or spoke nonsense (502, 504)

No class carries an HTTP status: one code has one status, in one table, in `web.problems`.
A message names the offending thing and the remedy, never a token, a body or a filter value.
"""

from __future__ import annotations

from typing import Any


class BrokerError(Exception):
    """The root. `code` is stable and documented in docs/errors.md; `detail` is for people.

    `retry_after_s` becomes a Retry-After header. `extra` becomes members of the problem
    document, so it must hold JSON values and no secrets.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after_s: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extra = extra or {}


class Unreadable(BrokerError):
    """The request cannot be read, so nothing is decided and nothing is sent."""


class Unauthenticated(BrokerError):
    """No credential, or none that we know. Says the same whether the caller exists or not."""


class NotGranted(BrokerError):
    """A known caller asks for what no grant of his covers."""


class Limited(BrokerError):
    """The caller's own limits, not Dataverse's."""


class PreconditionFailed(BrokerError):
    """The row that was addressed is not there for this caller, or not as he knew it."""


class Unavailable(BrokerError):
    """Something that the broker needs is missing for now; a later try may succeed."""


class UpstreamFailed(BrokerError):
    """Dataverse or Entra could not be reached, or answered what cannot be passed on."""


class Misconfigured(BrokerError):
    """A configuration or a setting that cannot be used. Raised while loading, never per request."""
