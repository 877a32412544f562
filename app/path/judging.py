"""From a request's bytes to what may be sent: read, decide, write; remembered where it can be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from app.audit.record import Part, TableAccess, table_accesses
from app.audit.target import recorded_target
from app.dataverse.link_bases import LinkBases
from app.errors import NotGranted, Unreadable
from app.limits.scheduler import Share
from app.odata.access import ALL
from app.odata.demands import Unknown
from app.odata.options import SEAL
from app.odata.read import Bounds, RequestReader
from app.odata.seals import Sealer, SealKey
from app.odata.target import read_target
from app.odata.write import Outgoing, Sending, write, write_reading_target
from app.path.errand import Prepared, prepared
from app.path.memory import Memory
from app.policy.compiling import PAGE_SIZE_DEFAULT
from app.policy.decide import decide
from app.policy.decision import Allow, Refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.odata.links import Bases
    from app.odata.read import Head
    from app.odata.reading import Reading
    from app.path.standing import Place
    from app.policy.grants import Grant

Pairs = tuple[tuple[bytes, bytes], ...]

LOOK_UPS_MAX = 1000
"""Requests that one request may cause: as many as a batch may have parts."""

REMEMBERED = 4096
"""Decisions about requests without a body; those that nobody asked for lately go first."""

_NEVER_JUDGED = frozenset(
    {
        b"host", b"authorization", b"x-api-key", b"user-agent", b"cookie", b"content-length",
        b"accept-encoding", b"cache-control", b"pragma", b"origin", b"referer",
        b"x-ms-client-request-id", b"x-ms-correlation-id", b"x-ms-client-session-id",
        b"traceparent", b"tracestate", b"x-forwarded-for", b"x-forwarded-proto",
        b"x-forwarded-host", b"x-forwarded-client-cert", b"x-request-id", b"date",
        b"broker-timeout", b"broker-retry",
    }
)  # fmt: skip
"""Headers that no decision depends on. They differ with every request, so they are taken out
before a decision is looked up; those that travel are added again by the one who sends."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A request that may be sent, and what the record says of it."""

    grant: Grant = field(repr=False)
    place: Place = field(repr=False)
    bases: Bases
    allow: Allow = field(repr=False)
    outgoing: Outgoing = field(repr=False)
    accesses: tuple[TableAccess, ...]
    parts: tuple[Part, ...]
    writes: bool
    prepared: Prepared = field(repr=False)
    """`outgoing` as bytes."""
    links: LinkBases
    sealer: Sealer = field(repr=False)
    share: Share
    harmless: bool
    """Sent twice it does no more than once."""

    def sent_as(self, reading: Reading) -> Outgoing:
        """Written anew, after look-ups have given it preconditions."""
        return write(reading, sending(self.grant, self.bases, self.allow))


class RequestHead(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def headers(self) -> Pairs: ...


class Request(Protocol):
    """As much of a request as a decision is remembered by."""

    @property
    def head(self) -> RequestHead: ...
    @property
    def target(self) -> bytes: ...


class Refused(NotGranted):
    """A refusal by policy, with what the record says of it."""

    def __init__(
        self,
        refuse: Refuse,
        *,
        accesses: tuple[TableAccess, ...],
        parts: tuple[Part, ...],
        unknown: bool,
    ) -> None:
        extra: dict[str, object] = {
            "accesses": [
                {
                    "table": m.access.table,
                    "operation": str(m.access.operation),
                    "columns": sorted(m.access.columns)
                    if isinstance(m.access.columns, frozenset)
                    else None,
                    **({} if m.part is None else {"part": m.part}),
                }
                for m in refuse.missing
                if m.access is not None
            ]
        }
        super().__init__(refuse.code, refuse.detail, extra=extra)
        self.missing = refuse.missing
        self.accesses = accesses
        self.parts = parts
        self.unknown = unknown


def sending(grant: Grant, bases: Bases, allow: Allow) -> Sending:
    return Sending(
        bases,
        mscrm=grant.headers,
        page_size=grant.limits.page_size,
        adds_page_size=grant.enforce,
        caller_object_id=allow.caller_object_id,
    )


class Judge:
    """Pure but for its memory, which only saves work: the same request, the same answer."""

    def __init__(self, seal_keys: Callable[[], tuple[SealKey, ...]]) -> None:
        # Derived once: what a derivation costs is a good part of what a request may.
        self._seal_keys = seal_keys()
        self._remembered: Memory[object, Judged] = Memory(REMEMBERED)

    def sealer(self, grant: Grant) -> Sealer:
        return Sealer(self._seal_keys, grant.caller, grant.environment, grant.applications)

    def sealing(self, grants: tuple[Grant, ...], target: bytes) -> Grant | None:
        """The grant under which a continuation was handed out; None where `target` is none."""
        try:
            read = read_target(target)
        except Unreadable:
            return None
        seal = next((value for name, value in read.options if name == SEAL), None)
        if seal is None:
            return None
        return next((g for g in grants if self.sealer(g).check(seal, read) is not None), None)

    def remembered(self, key: object) -> Judged | None:
        """What was decided about the same request. Only those without a body are remembered.

        `key` is from `request_key`: of the request's own bytes, and of all that counted then.
        """
        return self._remembered.get(key)

    def remember(self, key: object, judged: Judged) -> None:
        self._remembered.put(key, judged)

    def head(self, grant: Grant, bases: Bases, method: str, target: bytes, headers: Pairs) -> Head:
        """Raises `Unreadable`."""
        limits = grant.limits
        reader = RequestReader(
            grant.schema,
            bases,
            bounds=Bounds(
                expand_depth=limits.expand_depth,
                page_size=limits.page_size or PAGE_SIZE_DEFAULT,
                batch_parts=limits.batch_parts,
                body_bytes=limits.body_bytes,
            ),
            check_seal=self.sealer(grant).check,
        )
        return reader.head(method, target, judged_headers(headers))

    def judge(self, grant: Grant, place: Place, bases: Bases, reading: Reading) -> Judged:
        """Raises `Refused`, and `Unreadable` where too many rows had to be looked up."""
        decision = decide(grant, reading)
        if isinstance(decision, Refuse):
            refused = {m.part for m in decision.missing}
            raise Refused(
                decision,
                accesses=table_accesses(reading.accesses),
                parts=refused_parts(reading, place, refused),
                unknown=_has_unknown(reading),
            )
        if len(decision.look_ups) > LOOK_UPS_MAX:
            raise Unreadable(
                "limit-exceeded",
                f"the request names more than {LOOK_UPS_MAX} rows of filtered tables: send several",
            )
        sent = decision.reading
        outgoing = write(sent, sending(grant, bases, decision))
        return Judged(
            grant=grant,
            place=place,
            bases=bases,
            allow=decision,
            outgoing=outgoing,
            accesses=recorded_accesses(sent, grant),
            parts=sent_parts(sent, place, grant, outgoing.part_targets),
            writes=sent.writes,
            prepared=prepared(outgoing),
            links=LinkBases(environment=bases.environment, broker=bases.public),
            sealer=self.sealer(grant),
            share=Share(grant.caller, grant.limits.weight, grant.limits.priority),
            harmless=not sent.writes or is_repeatable(sent),
        )


def is_repeatable(reading: Reading) -> bool:
    """Whether a write does its work once however often it is sent.

    An ETag holds for one change, If-None-Match: * for one creation, and an upsert by alternate
    key ends in the same row. If-Match: * stops nothing, and what is called or batched is not
    looked into.
    """
    headers = reading.headers
    if reading.batch is not None or reading.method not in {"PATCH", "DELETE", "PUT"}:
        return False
    if headers.if_match is not None and headers.if_match != "*":
        return True
    if headers.if_none_match == "*":
        return True
    key = (reading.path[-1].arguments if reading.path else None) or ()
    return reading.method == "PATCH" and bool(key) and all(name is not None for name, _ in key)


def request_key(
    standing: int, caller: str, environment: str, version: str, request: Request, *, rooted: bool
) -> object:
    """Equal for requests about which the same is decided, and for no others.

    `standing` is the number of what counts now. Links lead back to where was asked, so `rooted`
    tells requests to the broker's root apart.
    """
    head = request.head
    return (
        standing,
        caller,
        environment,
        rooted,
        version,
        head.method,
        request.target,
        judged_headers(head.headers),
    )


def judged_headers(headers: Pairs) -> Pairs:
    return tuple(pair for pair in headers if pair[0] not in _NEVER_JUDGED)


def _has_unknown(reading: Reading) -> bool:
    batch = reading.batch
    readings = (reading,) if batch is None else tuple(p.reading for p in batch.parts())
    return any(isinstance(d, Unknown) for r in readings for d in r.demands)


def recorded_accesses(sent: Reading, grant: Grant) -> tuple[TableAccess, ...]:
    """What is done in the end: whole rows of a restricted table were narrowed to its columns."""
    return table_accesses(
        replace(access, columns=rights.readable)
        if grant.enforce
        and access.columns is ALL
        and (rights := grant.rights(access.table)) is not None
        else access
        for access in (*sent.accesses, *sent.if_updated, *sent.if_created)
    )


def refused_parts(reading: Reading, place: Place, refused: set[int | None]) -> tuple[Part, ...]:
    """A refused batch's parts, as they were read."""
    batch = reading.batch
    if batch is None:
        return ()
    return tuple(
        Part(
            method=part.reading.method,
            target=recorded_target(write_reading_target(part.reading), place.knows),
            accesses=table_accesses(
                (*part.reading.accesses, *part.reading.if_updated, *part.reading.if_created)
            ),
            decision="refused" if part.number in refused else "allowed",
        )
        for part in batch.parts()
    )


def sent_parts(
    sent: Reading, place: Place, grant: Grant, targets: tuple[str, ...]
) -> tuple[Part, ...]:
    """A batch's parts as they are sent; `targets` as they were written, in order."""
    batch = sent.batch
    if batch is None:
        return ()
    return tuple(
        Part(
            method=part.reading.method,
            target=recorded_target(target, place.knows),
            accesses=recorded_accesses(part.reading, grant),
            decision="allowed",
        )
        for part, target in zip(batch.parts(), targets, strict=True)
    )
