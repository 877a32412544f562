"""How an exchange with Dataverse fails, and how far it had come by then."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

from app.errors import Unavailable, UpstreamFailed

FailureCode = Literal[
    "upstream-unreachable", "upstream-timeout", "upstream-broke", "upstream-malformed"
]


class Stage(IntEnum):
    """How far an exchange had come. A later stage is the greater number."""

    CONNECTING = 0
    """No byte of the request has left."""
    SENDING = 1
    """A part of the request may have left."""
    WAITING = 2
    """The whole request may have left; no byte of the answer has come."""
    ANSWERING = 3
    """The answer had begun."""


class ExchangeFailed(UpstreamFailed):
    """Dataverse could not be reached, broke off, fell silent or spoke nonsense.

    `reused` says that the connection had carried an exchange before: one that is closed before
    any byte of the answer was most likely closed for being idle, and nobody read the request.
    """

    def __init__(
        self, code: FailureCode, detail: str, *, stage: Stage, reused: bool = False
    ) -> None:
        super().__init__(code, detail)
        self.stage = stage
        self.reused = reused

    @property
    def sent(self) -> bool:
        """Whether Dataverse may have seen the request, or a part of it."""
        return self.stage is not Stage.CONNECTING


class UpstreamBusy(Unavailable):
    """Every connection to the environment is taken, and so is the line before them."""

    def __init__(self, host: str, *, retry_after_s: int = 1) -> None:
        super().__init__(
            "upstream-busy",
            f"every connection to {host} is in use and too many requests wait for one: "
            "try again later, or send fewer at once",
            retry_after_s=retry_after_s,
        )
