"""One judged request, with all that is needed to carry it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.dataverse.message import Headers, UpstreamAnswer, UpstreamRequest
    from app.odata.write import Outgoing
    from app.path.exchange import Exchange
    from app.path.judging import Judged
    from app.path.standing import Place
    from app.path.wishes import Wishes


class Upstream(Protocol):
    """One environment's Web API."""

    async def send(
        self, request: UpstreamRequest, *, timeout_s: float, fresh: bool = False
    ) -> UpstreamAnswer: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as bytes, but for what each attempt adds: ids and the token."""

    method: str
    target: bytes
    headers: Headers = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    streams: bool = False


def prepared(outgoing: Outgoing) -> Prepared:
    return Prepared(
        method=outgoing.method,
        target=outgoing.target.encode("ascii"),
        headers=tuple((n.encode("ascii"), v.encode("latin-1")) for n, v in outgoing.headers),
        body=outgoing.body,
        streams=outgoing.streams,
    )


@dataclass(slots=True)
class Errand:
    """`application` is one of `applications`, and becomes another when it is told to wait."""

    judged: Judged
    place: Place
    upstream: Upstream
    application: str
    applications: tuple[str, ...]
    exchange: Exchange
    wishes: Wishes
    packed: bool = True
    """Whether the answer may come compressed: it is unpacked here, or the caller takes it."""
    stream: AsyncIterator[bytes] | None = field(default=None, repr=False)
    stream_bytes: int | None = None
