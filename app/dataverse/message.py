"""Requests to and answers from Dataverse, as the path hands them on; and the client's front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case when received; in the case that Dataverse documents when sent."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """What goes to Dataverse. `target` is the origin form: path and query, percent-encoded.

    `headers` holds neither Host nor framing: the client writes those. The bearer token stands
    in `headers`, so neither they nor a body are ever shown in a `repr`.
    """

    method: str
    target: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes] | None = None
    content_length: int | None = None
    """Only for an iterator as body: its length where it is known; chunked otherwise."""

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method} {self.target!r})"


class UpstreamAnswer(Protocol):
    """An answer whose head has arrived. Always `aclose()` it: fully read or not."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, its content coding untouched, framing removed.

        To be read once. Raises `ExchangeFailed` where it breaks off before its end.
        """
        ...

    async def whole(self) -> bytes | None:
        """What is left of the body, taken at once; None where that is too long to wait for.

        Then `chunks` gives it. Raises `ExchangeFailed` where it breaks off before its end.
        """
        ...

    async def aclose(self) -> None:
        """Give the connection back, or cut it where the body was not read to its end."""
        ...


class Upstream(Protocol):
    """One environment's Web API, as bytes."""

    async def send(
        self, request: UpstreamRequest, *, timeout_s: float, fresh: bool = False
    ) -> UpstreamAnswer:
        """Send, and return when the answer's head is there; `timeout_s` bounds that wait.

        `fresh` wants a new connection: the last one turned out to be stale.
        Raises `dataverse.failures.ExchangeFailed`, an `UpstreamFailed` whose `sent` says
        whether Dataverse may have seen the request, and `UpstreamBusy`.
        """
        ...
