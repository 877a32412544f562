"""Carry one judged request to Dataverse, and its answer back to whoever asked."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

import msgspec

from app.dataverse.answer_headers import BodyKind, body_kind, header, headers_for_caller
from app.dataverse.batch_answer import BatchAnswerRewriter, batch_boundary
from app.dataverse.codings import ACCEPT_ENCODING, decoder_for
from app.dataverse.links import LinkRewriter
from app.dataverse.throttling import retry_after_of
from app.errors import Unavailable, UpstreamFailed
from app.odata.reading import ChangeSet
from app.odata.seals import sealed_link
from app.path.errand import Errand, Prepared, prepared
from app.policy.looking import found, look_up_target, names_by_id, read_look_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.dataverse.codings import Decoder
    from app.dataverse.link_bases import LinkBases, LinkKind
    from app.dataverse.message import Headers, UpstreamAnswer
    from app.errors import BrokerError
    from app.odata.reading import Reading
    from app.path.sending import Sender, Sent, Turn
    from app.policy.decision import LookUp

LOOK_UP_BYTES_MAX = 64 * 1024

RETRY_AFTER_UNTOLD_S = 5
"""Where Dataverse names no time: so long Microsoft's own client pauses (dataverse-reference 4)."""


class Carried(msgspec.Struct, frozen=True):
    """Dataverse's answer, its head here; `headers` are the caller's. Always `aclose()` it."""

    answer: UpstreamAnswer
    turn: Turn
    headers: Headers
    rewriter: LinkRewriter | BatchAnswerRewriter | None
    decoder: Decoder | None
    """Undoes the content coding where links must be read; None where the body passes as it is."""
    dropped: tuple[str, ...]

    async def aclose(self) -> None:
        try:
            await self.answer.aclose()
        finally:
            self.turn.leave()


class Carrier:
    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def choose(self, applications: Sequence[str], environment: str) -> str:
        """The member of a pool that takes the next request."""
        return self._sender.choose(applications, environment)

    async def carry(self, errand: Errand) -> Carried:
        """Raises `TokenUnavailable`, `UpstreamFailed`, `PreconditionFailed`, `Unavailable`."""
        judged = errand.judged
        request, sent, dropped = judged.prepared, judged.allow.reading, judged.outgoing.dropped
        if judged.allow.look_ups:
            sent = await self._look_up(errand)
            outgoing = judged.sent_as(sent)
            request, dropped = prepared(outgoing), outgoing.dropped
        got = await self._sender.send(errand, request, harmless=judged.harmless)
        answer = got.answer
        service_id = header(answer.headers, b"x-ms-service-request-id")
        if service_id is not None:
            errand.exchange.upstream_request_id = service_id.decode("latin-1")
        try:
            return _carried(errand, got, sent, dropped)
        except BaseException:
            got.turn.leave()
            await answer.aclose()
            raise

    # ------------------------------------------------------------ look-ups

    async def _look_up(self, errand: Errand) -> Reading:
        """Every row of a filtered table is found before anything is sent."""
        etags: dict[LookUp, str | None] = {}
        seen: dict[str, str | None] = {}
        for look_up in errand.judged.allow.look_ups:
            target = look_up_target(look_up, errand.judged.grant.schema)
            if target not in seen:
                seen[target] = await self._one_look_up(
                    errand, target, by_id=names_by_id(look_up, errand.judged.grant.schema)
                )
            etags[look_up] = seen[target]
        return found(errand.judged.allow.reading, etags)

    async def _one_look_up(self, errand: Errand, target: str, *, by_id: bool) -> str | None:
        headers = [
            (b"Accept", b"application/json"),
            (b"OData-Version", b"4.0"),
            (b"OData-MaxVersion", b"4.0"),
        ]
        acting = errand.judged.allow.caller_object_id
        if acting is not None:
            headers.append((b"CallerObjectId", acting.encode("ascii")))
        request = Prepared(
            method="GET",
            target=f"/api/data/{errand.judged.bases.version}/{target}".encode("ascii"),
            headers=tuple(headers),
        )
        got = await self._sender.send(errand, request, harmless=True)
        try:
            status = got.answer.status
            if status == 400 and not by_id:
                # All that is the caller's in it are the key's values: one that is no value of its
                # column names no row. A GUID is one always, so there it is the filter.
                return None
            if status != 200:
                raise _unanswered(errand, status, got.answer.headers)
            body = b""
            async for piece in got.answer.chunks():
                body += piece
                if len(body) > LOOK_UP_BYTES_MAX:
                    break
        finally:
            await got.answer.aclose()
            got.turn.leave()
        return read_look_up(body)


def _unanswered(errand: Errand, status: int, headers: Headers) -> BrokerError:
    """What the caller is told: where Dataverse wants to be asked later, it is to ask later."""
    name = errand.place.name
    if status not in {429, 503}:
        return UpstreamFailed(
            "upstream-malformed", f"{name} answered a row look-up with status {status}"
        )
    told = retry_after_of(headers, now=datetime.now(UTC))
    after_s = RETRY_AFTER_UNTOLD_S if told is None else max(1, ceil(told.total_seconds()))
    why = "a service protection limit is used up" if status == 429 else "it is unavailable"
    return Unavailable(
        "upstream-busy",
        f"{name} could not be asked for the row, since {why}: try again later",
        retry_after_s=after_s,
    )


# -------------------------------------------------------------------- answers


def _carried(errand: Errand, got: Sent, sent: Reading, dropped: tuple[str, ...]) -> Carried:
    answer, links = got.answer, errand.judged.links
    kind = body_kind(answer.headers)
    seal = _Seal(errand, sent)
    rewriter: LinkRewriter | BatchAnswerRewriter | None = None
    if kind is BodyKind.JSON:
        rewriter = LinkRewriter(links, seal)
    elif kind is BodyKind.BATCH:
        rewriter = _batch_rewriter(errand, answer, sent, links)
    decoder = _decoder(errand, answer, read_here=rewriter is not None)
    headers = headers_for_caller(
        answer.headers,
        bases=links,
        seal=seal,
        body_rewritten=rewriter is not None or decoder is not None,
    )
    return Carried(answer, got.turn, headers, rewriter, decoder, dropped)


def _decoder(errand: Errand, answer: UpstreamAnswer, *, read_here: bool) -> Decoder | None:
    """For what is read here, and for a caller who did not say that it unpacks anything."""
    coding = header(answer.headers, b"content-encoding")
    if coding is None:
        return None
    if read_here:
        return decoder_for(coding)
    # A part of a packed body cannot be unpacked.
    packed = coding.strip().lower() == ACCEPT_ENCODING and answer.status != 206
    return decoder_for(coding) if packed and not errand.takes_gzip else None


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


class _Seal(msgspec.Struct, frozen=True):
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
            sealer=self.errand.judged.sealer,
            application=self.errand.application,
        )
