"""Why there is no token: a value inside the stage, `TokenUnavailable` when it leaves it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.errors import Unavailable


class Cause(StrEnum):
    """What is to blame, and so what a second try could change."""

    CREDENTIAL_REFUSED = "credential-refused"
    """Entra does not accept this secret, certificate or assertion. Another one may do."""
    CREDENTIAL_UNREADABLE = "credential-unreadable"
    """The credential could not be fetched or read here. Another one may do."""
    APPLICATION_REFUSED = "application-refused"
    """The app registration, its tenant or a policy on it. No credential helps."""
    RESOURCE_REFUSED = "resource-refused"
    """Entra knows the application, but not the environment that the token is for."""
    ENTRA_THROTTLED = "entra-throttled"
    ENTRA_UNREACHABLE = "entra-unreachable"
    """Not there, too slow, or 5xx."""
    ENTRA_MALFORMED = "entra-malformed"
    """It answered what no token can be read from."""
    BROKER_STOPPING = "broker-stopping"
    APPLICATION_UNKNOWN = "application-unknown"
    """No application of this name is configured (any longer)."""


BY_CREDENTIAL = frozenset({Cause.CREDENTIAL_REFUSED, Cause.CREDENTIAL_UNREADABLE})
"""The causes for which the next credential is tried."""

NEEDS_REPAIR = frozenset(
    {Cause.CREDENTIAL_REFUSED, Cause.APPLICATION_REFUSED, Cause.RESOURCE_REFUSED}
)
"""The causes that do not pass by themselves."""


class TokenUnavailable(Unavailable):
    """No token, and why: `extra` holds `cause`, `application`, and where Entra answered its
    `aadsts` code, `entra_error` and the `remedy`.
    """


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that gave no token. Holds nothing secret: no description of Entra's is quoted."""

    cause: Cause
    meaning: str
    """What is wrong: a clause that goes on after `no token for application X: `."""
    remedy: str
    aadsts: int | None = None
    entra_error: str | None = None
    status: int | None = None
    trace_id: str | None = None
    """Entra's, for its support."""
    retry_after_s: float | None = None
    """What the server asked for."""

    @property
    def summary(self) -> str:
        """One line for a log or a status page."""
        named = [f"AADSTS{self.aadsts}"] if self.aadsts else []
        named += [self.entra_error] if self.entra_error else []
        named += [f"HTTP {self.status}"] if self.status and not self.aadsts else []
        return f"{self.meaning} ({', '.join(named)})" if named else self.meaning

    def error(self, application: str, wait_s: float | None) -> TokenUnavailable:
        """The exception for one caller. A new one each time: an exception that a thousand callers
        share would collect all their tracebacks.
        """
        extra: dict[str, Any] = {
            "cause": self.cause.value,
            "application": application,
            "remedy": self.remedy,
        }
        if self.aadsts:
            extra["aadsts"] = f"AADSTS{self.aadsts}"
        if self.entra_error:
            extra["entra_error"] = self.entra_error
        if self.trace_id:
            extra["entra_trace_id"] = self.trace_id
        return TokenUnavailable(
            "token-unavailable",
            f"no token for application {application}: {self.summary}. {self.remedy}",
            retry_after_s=None if wait_s is None else max(1, math.ceil(wait_s)),
            extra=extra,
        )


STOPPING = Failure(
    cause=Cause.BROKER_STOPPING,
    meaning="the broker is stopping",
    remedy="Try again; another replica will answer.",
)
