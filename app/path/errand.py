"""One judged request, with all that is needed to carry it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from app.dataverse.codings import ACCEPT_ENCODING, IDENTITY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.dataverse.message import Headers, UpstreamAnswer, UpstreamRequest
    from app.odata.write import Outgoing
    from app.path.exchange import Exchange
    from app.path.judging import Judged
    from app.path.standing import Place
    from app.path.wishes import Wishes


_REFUSED = re.compile(rb";\s*q=0(?:\.0*)?\s*$")
"""A coding that is named only to be refused (RFC 9110, 12.5.3)."""


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


class Errand(msgspec.Struct):
    """`application` is one of `applications`, and becomes another when it is told to wait."""

    judged: Judged
    place: Place
    upstream: Upstream
    application: str
    applications: tuple[str, ...]
    exchange: Exchange
    wishes: Wishes
    caller_headers: Headers = field(default=(), repr=False)
    stream: AsyncIterator[bytes] | None = None
    stream_bytes: int | None = None

    def __repr__(self) -> str:
        return f"Errand({self.judged.prepared!r} as {self.application})"

    @property
    def takes_gzip(self) -> bool:
        """Whether the caller says that it can unpack gzip. Looked for only where it matters."""
        return any(
            coding.partition(b";")[0].strip().lower() in {b"gzip", b"*"}
            and _REFUSED.search(coding) is None
            for name, value in self.caller_headers
            if name == b"accept-encoding"
            for coding in value.split(b",")
        )

    @property
    def accept_encoding(self) -> bytes:
        """What has links in it is unpacked here; a file only where its caller can do it."""
        asks = not self.judged.allow.reading.file or self.takes_gzip
        return ACCEPT_ENCODING if asks else IDENTITY
