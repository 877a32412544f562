"""Carry one judged request to Dataverse, and its answer back to whoever asked."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from app.dataverse.answer_headers import BodyKind, body_kind, header, headers_for_caller
from app.dataverse.batch_answer import BatchAnswerRewriter, batch_boundary
from app.dataverse.codings import decoder_for
from app.dataverse.failures import ExchangeFailed, Stage
from app.dataverse.link_bases import LinkBases
from app.dataverse.links import LinkRewriter
from app.dataverse.message import UpstreamRequest
from app.errors import UpstreamFailed
from app.odata.reading import ChangeSet
from app.odata.seals import Sealer, sealed_link
from app.policy.looking import found, look_up_target, read_look_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from app.dataverse.codings import Decoder
    from app.dataverse.link_bases import LinkKind
    from app.dataverse.message import Headers, UpstreamAnswer
    from app.odata.reading import Reading
    from app.odata.write import Outgoing
    from app.path.exchange import Exchange, Observer
    from app.path.judging import Judged
    from app.path.standing import Place
    from app.policy.decision import LookUp
    from app.tokens.lease import Lease

HEAD_TIMEOUT_S = 120.0
"""How long Dataverse may think before an answer begins: its own limit is two minutes."""

LOOK_UP_BYTES_MAX = 64 * 1024

_SAFE_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Tokens(Protocol):
    """Where tokens come from."""

    def lease_now(self, application: str, resource: str) -> Lease | None: ...

    async def lease(self, application: str, resource: str) -> Lease: ...

    def invalidate(self, lease: Lease) -> bool: ...


class Upstream(Protocol):
    """One environment's Web API."""

    async def send(
        self, request: UpstreamRequest, *, timeout_s: float, fresh: bool = False
    ) -> UpstreamAnswer: ...


@dataclass(frozen=True, slots=True)
class Errand:
    """One request and all that is needed to carry it."""

    judged: Judged
    place: Place
    upstream: Upstream
    application: str
    sealer: Sealer
    exchange: Exchange
    tracing: Headers = ()
    """Headers that differ with each request and were not judged."""
    packed: bool = True
    """Whether the answer may come compressed: it is unpacked here, or the caller takes it."""
    stream: AsyncIterator[bytes] | None = field(default=None, repr=False)
    stream_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """Dataverse's answer, its head here. `headers` are the caller's, `sent` what was asked."""

    answer: UpstreamAnswer
    headers: Headers
    rewriter: LinkRewriter | BatchAnswerRewriter | None
    decoder: Decoder | None
    """Undoes the content coding where links must be read; None where the body passes as it is."""
    dropped: tuple[str, ...]


class Carrier:
    def __init__(self, tokens: Tokens, observer: Observer) -> None:
        self._tokens = tokens
        self._observer = observer

    async def carry(self, errand: Errand) -> Carried:
        """Raises `TokenUnavailable`, `UpstreamFailed`, `PreconditionFailed`, `Unavailable`."""
        lease = await self._lease(errand)
        outgoing, sent = errand.judged.outgoing, errand.judged.allow.reading
        if errand.judged.allow.look_ups:
            sent = await self._look_up(errand, lease)
            lease = await self._lease(errand)  # a look-up may have renewed it
            outgoing = errand.judged.sent_as(sent)
        began = time.perf_counter()
        try:
            answer = await self._send(errand, outgoing, lease)
        except UpstreamFailed:
            self._observer.upstream(0, time.perf_counter() - began)
            raise
        exchange = errand.exchange
        took = time.perf_counter() - began
        exchange.upstream_ms = round(took * 1000, 3)
        exchange.upstream_status = answer.status
        service_id = header(answer.headers, b"x-ms-service-request-id")
        exchange.upstream_request_id = None if service_id is None else service_id.decode("latin-1")
        self._observer.upstream(answer.status, took)
        try:
            return self._carried(errand, answer, sent, outgoing)
        except UpstreamFailed:
            await answer.aclose()
            raise

    async def _lease(self, errand: Errand) -> Lease:
        resource = errand.place.resource
        lease = self._tokens.lease_now(errand.application, resource)
        if lease is None:
            lease = await self._tokens.lease(errand.application, resource)
        errand.exchange.token_fingerprint = lease.fingerprint
        return lease

    async def _send(self, errand: Errand, outgoing: Outgoing, lease: Lease) -> UpstreamAnswer:
        """Once, and once more with a new token where Dataverse refuses the one that it got."""
        answer = await self._attempt(errand, outgoing, lease)
        if answer.status != 401:
            return answer
        await answer.aclose()
        renewable = self._tokens.invalidate(lease) and not outgoing.streams
        if renewable:
            answer = await self._attempt(errand, outgoing, await self._lease(errand))
            if answer.status != 401:
                return answer
            await answer.aclose()
        raise refused_token(errand)

    async def _attempt(self, errand: Errand, outgoing: Outgoing, lease: Lease) -> UpstreamAnswer:
        body: bytes | AsyncIterator[bytes] | None = outgoing.body
        length: int | None = None
        if outgoing.streams:
            body, length = errand.stream, errand.stream_bytes
        request = UpstreamRequest(
            method=outgoing.method,
            target=outgoing.target.encode("ascii"),
            headers=(
                *_encoded(outgoing),
                *errand.tracing,
                (b"Authorization", lease.authorization()),
            ),
            body=body,
            content_length=length,
        )
        if outgoing.streams:
            return await errand.upstream.send(request, timeout_s=HEAD_TIMEOUT_S)
        return await _sent(errand, request, writes=errand.judged.writes)

    # ------------------------------------------------------------ look-ups

    async def _look_up(self, errand: Errand, lease: Lease) -> Reading:
        """Every row of a filtered table is found before anything is sent."""
        etags: dict[LookUp, str | None] = {}
        seen: dict[str, str | None] = {}
        for look_up in errand.judged.allow.look_ups:
            target = look_up_target(look_up, errand.judged.grant.schema)
            if target not in seen:
                seen[target] = await self._one_look_up(errand, lease, target)
            etags[look_up] = seen[target]
        return found(errand.judged.allow.reading, etags)

    async def _one_look_up(self, errand: Errand, lease: Lease, target: str) -> str | None:
        answer = await self._look_up_with(errand, lease, target)
        if answer.status == 401 and self._tokens.invalidate(lease):
            await answer.aclose()
            answer = await self._look_up_with(errand, await self._lease(errand), target)
        try:
            if answer.status == 401:
                raise refused_token(errand)
            if answer.status != 200:
                raise UpstreamFailed(
                    "upstream-malformed",
                    f"{errand.place.name} answered a row look-up with status {answer.status}",
                )
            body = b""
            async for piece in answer.chunks():
                body += piece
                if len(body) > LOOK_UP_BYTES_MAX:
                    break
        finally:
            await answer.aclose()
        return read_look_up(body)

    async def _look_up_with(self, errand: Errand, lease: Lease, target: str) -> UpstreamAnswer:
        headers = [
            (b"Accept", b"application/json"),
            (b"OData-Version", b"4.0"),
            (b"OData-MaxVersion", b"4.0"),
            (b"Authorization", lease.authorization()),
        ]
        acting = errand.judged.allow.caller_object_id
        if acting is not None:
            headers.append((b"CallerObjectId", acting.encode("ascii")))
        request = UpstreamRequest(
            method="GET",
            target=f"/api/data/{errand.judged.bases.version}/{target}".encode("ascii"),
            headers=tuple(headers),
        )
        return await _sent(errand, request, writes=False)

    # -------------------------------------------------------------- answers

    def _carried(
        self, errand: Errand, answer: UpstreamAnswer, sent: Reading, outgoing: Outgoing
    ) -> Carried:
        bases = errand.judged.bases
        links = LinkBases(environment=bases.environment, broker=bases.public)
        kind = body_kind(answer.headers)
        seal = _Seal(errand, sent)
        rewriter: LinkRewriter | BatchAnswerRewriter | None = None
        if kind is BodyKind.JSON:
            rewriter = LinkRewriter(links, seal)
        elif kind is BodyKind.BATCH:
            rewriter = _batch_rewriter(errand, answer, sent, links)
        headers = headers_for_caller(
            answer.headers, bases=links, seal=seal, body_rewritten=rewriter is not None
        )
        decoder = None
        if rewriter is not None:
            decoder = decoder_for(header(answer.headers, b"content-encoding"))
        return Carried(answer, headers, rewriter, decoder, outgoing.dropped)


async def _sent(errand: Errand, request: UpstreamRequest, *, writes: bool) -> UpstreamAnswer:
    """Once more on a new connection where the old one was closed for being idle.

    Nobody read the request then. A read may go again in any case; a write only where not a byte
    of it has left.
    """
    try:
        return await errand.upstream.send(request, timeout_s=HEAD_TIMEOUT_S)
    except ExchangeFailed as failure:
        harmless = not writes or failure.stage is Stage.CONNECTING
        if not failure.reused or not harmless:
            raise
    return await errand.upstream.send(request, timeout_s=HEAD_TIMEOUT_S, fresh=True)


def refused_token(errand: Errand) -> UpstreamFailed:
    """Dataverse knows neither the old token nor a new one."""
    return UpstreamFailed(
        "upstream-refused-token",
        f"{errand.place.name} refused the broker's token of {errand.application}: is its"
        " application user there and enabled?",
    )


def _batch_rewriter(
    errand: Errand, answer: UpstreamAnswer, sent: Reading, links: LinkBases
) -> BatchAnswerRewriter:
    items = () if sent.batch is None else sent.batch.items
    parts = () if sent.batch is None else sent.batch.parts()
    readings = [p.reading for p in parts]
    return BatchAnswerRewriter(
        batch_boundary(header(answer.headers, b"content-type") or b""),
        bases=links,
        seal_for=lambda i: _Seal(errand, readings[i] if i < len(readings) else None),
        operations=[len(i.parts) if isinstance(i, ChangeSet) else 1 for i in items] or None,
    )


@dataclass(frozen=True, slots=True)
class _Seal:
    """Seals what continues `sent`, and nothing else."""

    errand: Errand
    sent: Reading | None

    def __call__(self, kind: LinkKind, owner: str, url: str) -> str | None:
        del kind, owner
        if self.sent is None:
            return None
        return sealed_link(
            url,
            self.sent,
            bases=self.errand.judged.bases,
            schema=self.errand.judged.grant.schema,
            sealer=self.errand.sealer,
            application=self.errand.application,
        )


def _encoded(outgoing: Outgoing) -> Headers:
    return tuple((n.encode("ascii"), v.encode("latin-1")) for n, v in outgoing.headers)


def tracing_headers(values: Mapping[bytes, bytes], request_id: str) -> Headers:
    """Ids that Dataverse keeps in its telemetry: the caller's own, or else the broker's."""
    client_id = values.get(b"x-ms-client-request-id", b"")
    if _SAFE_ID.fullmatch(client_id) is None:
        client_id = request_id.encode("ascii")
    headers = [(b"x-ms-client-request-id", client_id)]
    parent = values.get(b"traceparent")
    if parent is not None and _SAFE_ID.fullmatch(parent):
        headers.append((b"traceparent", parent))
    return tuple(headers)


def takes_gzip(headers: Headers) -> bool:
    """Whether the caller says that it can unpack gzip."""
    return any(
        coding.split(b";")[0].strip().lower() in {b"gzip", b"*"} and b"q=0" not in coding
        for name, value in headers
        if name == b"accept-encoding"
        for coding in value.split(b",")
    )
